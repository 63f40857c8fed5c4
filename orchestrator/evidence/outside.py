"""Comparisons made elsewhere: rows with a question and several models' solutions, each right or wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.evidence.arms import Arm, Arms

if TYPE_CHECKING:
    from collections.abc import Iterable

MARK = "is_correct"


@dataclass(frozen=True)
class Outside:
    """What such rows hold."""

    arms: Arms
    """1 right, 0 wrong, NaN where a model has no solution; prompts are named by their questions, " (2)" behind a
    repeated one."""
    answers: dict[str, tuple[str, ...]]
    """Each model's solutions, "" where there is none."""
    gold: tuple[str, ...]
    """`ground_truth`, or "" where there is none."""


def outside_read(rows: Iterable[Mapping[str, Any]]) -> Outside:
    """Rows as in GSM8K's example solutions: {"question", "ground_truth", MODEL: {"is_correct": true,
    "solution": "..."}, ...}.

    Every key whose value has `is_correct` is a model. ValueError that names the row, from 1, and the field:
    without rows, without a question, with fewer than two models, or with an `is_correct` that is neither true,
    false nor null.
    """
    rows = list(rows)
    if not rows:
        raise ValueError("rows: there are none; give at least one")
    models: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise ValueError(
                f"row {number}: give an object with question and models, not {type(row).__name__}"
            )
        models |= {
            key: None for key, value in row.items() if isinstance(value, Mapping) and MARK in value
        }
    if len(models) < 2:
        raise ValueError(
            f"rows: {len(models)} models have {MARK}; a comparison needs two or more, each as "
            f"{{{MARK!r}: true, 'solution': '...'}}"
        )
    prompts, seen = [], Counter[str]()
    scores = {model: np.full(len(rows), np.nan) for model in models}
    faults: dict[str, dict[tuple[int, ...], str]] = {model: {} for model in models}
    answers: dict[str, list[str]] = {model: [] for model in models}
    for at, row in enumerate(rows):
        question = row.get("question")
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"row {at + 1}: question is missing or no text")
        seen[question] += 1
        prompts.append(question if seen[question] == 1 else f"{question} ({seen[question]})")
        for model in models:
            given = row.get(model)
            mark = given.get(MARK) if isinstance(given, Mapping) else None
            if mark is None:
                faults[model][at,] = "no solution"
            elif isinstance(mark, bool):
                scores[model][at] = float(mark)
            else:
                raise ValueError(
                    f"row {at + 1}: {MARK} of {model!r} is {mark!r}; give true, false or null"
                )
            text = given.get("solution") if isinstance(given, Mapping) else None
            answers[model].append(text if isinstance(text, str) else "")
    return Outside(
        Arms(tuple(prompts), tuple(Arm(model, scores[model], faults[model]) for model in models)),
        {model: tuple(texts) for model, texts in answers.items()},
        tuple(text if isinstance(text := row.get("ground_truth"), str) else "" for row in rows),
    )
