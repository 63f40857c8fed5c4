"""How far judges agree: with each other, with gold items, and with themselves when sides are swapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from orchestrator.evidence.intervals import Interval
    from orchestrator.evidence.votes import Vote


@dataclass(frozen=True)
class Agreement:
    """One judge."""

    judge: str
    votes: int
    gold: int
    """Gold items that the judge was shown."""
    gold_right: float | None
    """Share of these answered as they should be; None without any."""
    gold_interval: Interval | None
    """Wilson's."""
    kappas: dict[str, float | None]
    """Cohen's kappa with each other judge on items that both judged; None where it is undefined."""
    shared: dict[str, int]
    """Items that both judged."""
    left_share: float | None
    """Share of "left" among this judge's votes for a side; None without any."""


@dataclass(frozen=True)
class PositionBias:
    """Whether the side counts."""

    decided: int
    """Votes for a side."""
    left_share: float | None
    interval: Interval | None
    """Wilson's."""
    p: float
    """Exact binomial test of one half; fair only where sides were drawn by chance."""
    swapped: int
    """Items that one judge saw both ways round."""
    consistent: float | None
    """Share of these where the same arm (or a tie) came out both times; None without any."""


def cohen_kappa(one: Sequence[str], other: Sequence[str]) -> float | None:
    """Cohen's kappa (1960) of two judges' labels of the same items; None where both use a single same label.
    ValueError for unequal lengths or no items."""
    raise NotImplementedError


def fleiss_kappa(counts: ArrayLike) -> float | None:
    """Fleiss' kappa (1971) of counts (items, labels); items may have different numbers of judges, two at
    least. None where it is undefined."""
    raise NotImplementedError


def agreement(votes: Sequence[Vote]) -> tuple[tuple[Agreement, ...], float | None]:
    """Every judge by name, and Fleiss' kappa over all items that at least two judges judged (None without
    any). Sides are taken out first: what counts is the arm."""
    raise NotImplementedError


def position_bias(votes: Sequence[Vote], *, level: float = 0.95) -> PositionBias:
    """Over all votes but gold ones."""
    raise NotImplementedError


def judge_weights(votes: Sequence[Vote]) -> dict[str, float]:
    """A weight from 0 to 1 a judge, from gold items alone: the share of votes that are better than a guess,
    drawn towards the mean judge where gold items are few; 1 for all where there are none."""
    raise NotImplementedError
