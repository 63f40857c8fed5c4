"""Votes: what a judge, a person or a model, said of two answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["left", "right", "tie", "both bad"]
OUTCOMES: tuple[Outcome, ...] = ("left", "right", "tie", "both bad")

FENCE = re.compile(r"^ {0,3}(```|~~~)")
HEADER = re.compile(r" {0,3}#{1,6}(\s|$)")
LIST_ITEM = re.compile(r"\s*([-*+]|\d{1,9}[.)])\s")
BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


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

    def __post_init__(self) -> None:
        """ValueError for an outcome that there is not, or an arm against itself."""
        for name, outcome in (("outcome", self.outcome), ("gold", self.gold)):
            if outcome not in OUTCOMES and not (name == "gold" and outcome is None):
                raise ValueError(f"{name}: {outcome!r} is none of {', '.join(OUTCOMES)}")
        if self.left == self.right:
            raise ValueError(
                f"right: {self.right!r} is shown on both sides; a vote is between two arms"
            )

    @property
    def about(self) -> str:
        """What votes of several judges have in common when they judged the same."""
        return self.item or "\n".join((self.prompt, *sorted((self.left, self.right))))

    @property
    def label(self) -> str:
        """The outcome without sides or names: "first" or "second" in the order of names, "tie" or "both bad"."""
        if self.outcome not in ("left", "right"):
            return self.outcome
        return "first" if self.choice == min(self.left, self.right) else "second"

    @property
    def choice(self) -> str:
        """The outcome without sides: the arm that won, "tie" or "both bad"."""
        return {"left": self.left, "right": self.right}.get(self.outcome, self.outcome)


def style(answer: str) -> Style:
    """Characters, Markdown headers, list items and bold spans of an answer; code blocks count for length
    alone."""
    prose, fenced = [], False
    for line in answer.splitlines():
        if FENCE.match(line):
            fenced = not fenced
        elif not fenced:
            prose.append(line)
    return Style(
        length=len(answer),
        headers=sum(bool(HEADER.match(line)) for line in prose),
        lists=sum(bool(LIST_ITEM.match(line)) for line in prose),
        bold=sum(len(BOLD.findall(line)) for line in prose),
    )
