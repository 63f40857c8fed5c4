"""Bradley-Terry ratings with ties (Davidson 1970), the left-hand advantage (Davidson and Beaver 1977) and
style control (Chatbot Arena 2024).

Legend: A arms, N votes, F features, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from orchestrator.evidence.intervals import Interval
    from orchestrator.evidence.votes import Vote


@dataclass(frozen=True)
class Rating:
    """One arm."""

    arm: str
    rating: float
    """1000 on average over the arms; 400 more is odds of 10 to 1 among votes that decide."""
    interval: Interval
    rank: int
    """1 plus the arms that are surely better: whose interval of the difference to this one lies above 0."""
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int


@dataclass(frozen=True)
class Ratings:
    """All arms, the best first, and what else moved the votes."""

    ratings: tuple[Rating, ...]
    left_advantage: float
    """Rating points that the answer on the left has for being there."""
    left_interval: Interval
    style: dict[str, float]
    """Rating points for one typical (root mean square) difference of each feature; empty without style
    control."""
    style_intervals: dict[str, Interval]
    tie_share: float
    """Share of votes that are ties or both bad."""
    votes: int
    prompts: int
    judges: int
    level: float


def ratings(
    votes: Sequence[Vote],
    *,
    style_control: bool = False,
    weights: Mapping[str, float] | None = None,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Ratings:
    """Maximum likelihood with a weak prior, intervals by bootstrap over prompts.

    Ties and "both bad" share the tie outcome: neither tells who is stronger; how often an arm's votes were
    "both bad" is counted beside it. Gold votes are left out. `weights`: of judges, 1 where one is not named (see `judge_weights`). ValueError where arms were never compared, not even through others; where style control
    is asked for and a vote has no style; for a negative weight; without votes.
    """
    raise NotImplementedError
