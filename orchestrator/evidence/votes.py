"""Votes: what a judge, a person or a model, said of two answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["left", "right", "tie", "both bad"]


@dataclass(frozen=True)
class Style:
    """What of an answer can please without being better; counts."""

    length: int = 0
    """Characters or tokens, the same unit in all votes."""
    headers: int = 0
    lists: int = 0
    """List items."""
    bold: int = 0


@dataclass(frozen=True)
class Vote:
    """One vote on one pair of answers."""

    judge: str
    prompt: str
    left: str
    """The arm whose answer was shown first."""
    right: str
    outcome: Outcome
    left_style: Style | None = None
    right_style: Style | None = None
    gold: Outcome | None = None
    """What a hidden gold item should be answered with; gold votes measure judges and never rate arms."""
    item: str = ""
    """What was judged; votes of several judges on the same item agree or not. Empty: the prompt and the two
    arms."""


def style(answer: str) -> Style:
    """Characters, Markdown headers, list items and bold spans of an answer; code blocks count for length
    alone."""
    raise NotImplementedError
