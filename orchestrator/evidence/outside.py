"""Comparisons made elsewhere: rows with a question and several models' solutions, each right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.evidence.arms import Arms


@dataclass(frozen=True)
class Outside:
    """What such rows hold."""

    arms: Arms
    """1 right, 0 wrong, NaN where a model has no solution; prompts are named by their questions, "(2)" behind
    a repeated one."""
    answers: dict[str, tuple[str, ...]]
    """Each model's solutions, "" where there is none."""
    gold: tuple[str, ...]
    """`ground_truth`, or "" where there is none."""


def outside_read(rows: Iterable[Mapping[str, Any]]) -> Outside:
    """Rows as in GSM8K's example solutions: {"question", "ground_truth", MODEL: {"is_correct": true,
    "solution": "..."}, ...}.

    Every key whose value has `is_correct` is a model. ValueError that names the row and the field: without
    rows, without a question, with fewer than two models, or with an `is_correct` that is neither true, false
    nor null.
    """
    raise NotImplementedError
