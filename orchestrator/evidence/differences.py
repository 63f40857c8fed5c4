"""The paired difference of two means, with an interval.

Legend: S training seeds, P prompts, K samples a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair
    from orchestrator.evidence.intervals import Interval


@dataclass(frozen=True)
class Difference:
    """Candidate minus baseline, in the unit of the scores."""

    candidate: float
    """The candidate's mean over the prompts of the pair."""
    baseline: float
    difference: float
    interval: Interval
    prompts: int
    sd: float
    """Standard deviation of the prompts' differences."""
    seeds: tuple[int, int]
    """Training seeds of candidate and baseline; the interval speaks of recipes only where both have two or
    more, else of these checkpoints."""
    p_seeds: float | None
    """p of no difference between the recipes, over seeds and prompts; None with a single training seed on a
    side."""


def difference(
    pair: Pair, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Mean over prompts of the prompts' differences; the k samples of a prompt stay together.

    One training seed a side: bootstrap over prompts (see `intervals.bootstrap`). Two or more on both sides:
    seeds and prompts both vary, see `seeds.crossed`. ValueError for a level outside 0..1, fewer than 100
    resamples or a single prompt.
    """
    raise NotImplementedError
