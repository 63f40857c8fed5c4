"""The paired difference of two means, with an interval.

Legend: S training seeds, P prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.evidence.intervals import Interval, level_check, mean_interval
from orchestrator.evidence.seeds import crossed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from orchestrator.evidence.arms import Pair


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
    """Training seeds of candidate and baseline; the interval speaks of recipes only where both have two or more,
    else of these checkpoints."""
    p_seeds: float | None
    """p of no difference between the recipes, over seeds and prompts; None with a single training seed on a
    side."""


def difference(
    pair: Pair, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Mean over prompts of the prompts' differences; the k samples of a prompt stay together.

    With one training seed on a side: bootstrap over prompts (see `intervals.mean_interval`). Two or more on
    both: seeds and prompts both vary, see `seeds.crossed`. ValueError for a level outside 0..1, fewer than 100
    resamples or a single prompt.
    """
    least, greatest = pair.bounds
    return difference_of(
        pair.candidate_SP,
        pair.baseline_SP,
        span=greatest - least,
        level=level,
        resamples=resamples,
        seed=seed,
    )


def difference_of(
    candidate_SP: NDArray[np.float64],
    baseline_SP: NDArray[np.float64],
    *,
    span: float,
    level: float,
    resamples: int,
    seed: int,
) -> Difference:
    """The same of any value per training seed and prompt that differs by at most `span`, such as pass@k."""
    level_check(level, resamples)
    candidate_P, baseline_P = candidate_SP.mean(axis=0), baseline_SP.mean(axis=0)
    difference_P = candidate_P - baseline_P
    if difference_P.size < 2:
        raise ValueError("a single prompt says nothing of others; compare on two or more")
    p_seeds = None
    if min(len(candidate_SP), len(baseline_SP)) > 1:
        found = crossed(candidate_SP, baseline_SP)
        low, high = found.bounds(level)
        interval = Interval(max(low, -span), min(high, span), level, "t over seeds and prompts")
        p_seeds = found.p
    else:
        interval = mean_interval(
            difference_P, bounds=(-span, span), level=level, resamples=resamples, seed=seed
        )
    return Difference(
        candidate=float(candidate_P.mean()),
        baseline=float(baseline_P.mean()),
        difference=float(difference_P.mean()),
        interval=interval,
        prompts=difference_P.size,
        sd=float(difference_P.std(ddof=1)),
        seeds=(len(candidate_SP), len(baseline_SP)),
        p_seeds=p_seeds,
    )
