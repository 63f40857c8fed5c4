"""Intervals of a mean over prompts. Whole prompts are drawn again, so that the samples of a prompt stay
together.

Legend: P prompts, C comparisons side by side, R resamples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from orchestrator.evidence.betting import betting_bounds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

FEWEST = 5
"""Prompts that must leave the commonest value before the bootstrap is trusted: with 3, one resample in 20
holds none."""
CELLS = 4_000_000
"""Numbers of one batch of resamples: 32 MB."""


@dataclass(frozen=True)
class Interval:
    """From `low` to `high`, which holds the true value in `level` of repetitions."""

    low: float
    high: float
    level: float
    method: str
    """How it was made: "bootstrap-t over prompts", "betting (few prompts differ)", "t over seeds and prompts",
    …"""

    def holds(self, value: float) -> bool:
        """Whether `value` lies in it, ends included."""
        return self.low <= value <= self.high

    def within(self, margin: float) -> bool:
        """Whether all of it lies nearer to 0 than `margin`."""
        return -margin < self.low and self.high < margin


def level_check(level: float, resamples: int) -> None:
    """ValueError for a level outside 0..1 or fewer than 100 resamples."""
    if not 0 < level < 1:
        raise ValueError(f"level: {level} is not between 0 and 1; give 0.95 for 95 %")
    if resamples < 100:
        raise ValueError(f"resamples: {resamples} are too few for an interval; give 100 or more")


def draws(prompts: int, resamples: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Batches (r, P) of how often each prompt was drawn, r adding up to R. The same for equal arguments."""
    rng = np.random.default_rng(seed)
    batch = max(1, CELLS // prompts)
    for start in range(0, resamples, batch):
        rows = min(batch, resamples - start)
        drawn = rng.integers(0, prompts, (rows, prompts))
        drawn += np.arange(rows)[:, None] * prompts
        counts = np.bincount(drawn.ravel(), minlength=rows * prompts)
        yield counts.reshape(rows, prompts).astype(np.float64)


def bootstrap_t(
    values_PC: NDArray[np.float64], *, level: float, resamples: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Symmetric bootstrap-t of the columns' means, low and high (C,) (Hall 1988, "On symmetric bootstrap
    confidence intervals"): mean ± q · sd / sqrt(n), q the level's quantile of |t| over resamples.

    Infinite where too many resamples have no spread, which happens when very few prompts differ.
    """
    prompts = values_PC.shape[0]
    mean_C = values_PC.mean(axis=0)
    centred_PC = values_PC - mean_C
    spread_C = np.sqrt((centred_PC**2).mean(axis=0))
    scaled_PC = centred_PC / np.where(spread_C > 0, spread_C, 1.0)
    ts = []
    for counts_RP in draws(prompts, resamples, seed):
        shares_RP = counts_RP / prompts
        mean_RC = shares_RP @ scaled_PC
        variance_RC = shares_RP @ scaled_PC**2 - mean_RC**2
        flat_RC = variance_RC < 1e-9
        t_RC = np.abs(mean_RC) / np.sqrt(np.where(flat_RC, 1.0, variance_RC))
        ts.append(np.where(flat_RC & (np.abs(mean_RC) > 1e-9), np.inf, t_RC))
    rank = min(resamples - 1, int(np.ceil(level * (resamples + 1))) - 1)
    quantile_C = np.partition(np.concatenate(ts), rank, axis=0)[rank]
    half_C = np.where(spread_C > 0, quantile_C * spread_C, 0.0)
    return mean_C - half_C, mean_C + half_C


def percentile_interval(
    drawn_R: NDArray[np.float64], *, level: float, prompts: int, offset: float = 0.0
) -> Interval:
    """From the quantiles of refits, a little further out than `level` says: the expanded percentile interval.

    A bootstrap of n prompts is as narrow as n - 1 to n, and knows no t distribution (Hesterberg 2015, "What
    teachers should know about the bootstrap").
    """
    far = np.sqrt(prompts / (prompts - 1)) * stats.t.ppf(0.5 + level / 2, prompts - 1)
    tail = float(stats.norm.sf(far))
    low, high = np.quantile(drawn_R, (tail, 1 - tail)).tolist()
    return Interval(low + offset, high + offset, level, "percentile bootstrap over prompts")


def mean_interval(
    values_P: NDArray[np.float64],
    *,
    bounds: tuple[float, float],
    level: float,
    resamples: int,
    seed: int,
) -> Interval:
    """Interval of a mean over prompts, cut at `bounds`, the least and greatest value that there can be.

    Bootstrap-t where it holds; where fewer than 5 prompts leave the commonest value there is next to nothing
    to draw again, and a bootstrap would be far too sure: then by betting, which is valid for any bounded values
    at any number of prompts, and wider (see `betting`).
    """
    least, greatest = bounds
    commonest = int(np.unique(values_P, return_counts=True)[1].max())
    if values_P.size - commonest >= FEWEST:
        low_C, high_C = bootstrap_t(values_P[:, None], level=level, resamples=resamples, seed=seed)
        low, high, method = float(low_C[0]), float(high_C[0]), "bootstrap-t over prompts"
    else:
        # The bets go by what was seen before, so the order must not be anybody's choice.
        shuffled_P = np.random.default_rng(seed).permutation(values_P)
        unit_P1 = ((shuffled_P - least) / (greatest - least))[:, None]
        low_C, high_C = betting_bounds(unit_P1, alpha=1 - level, horizon=values_P.size)
        low, high = (least + (greatest - least) * float(end[0]) for end in (low_C, high_C))
        method = "betting (few prompts differ)"
    return Interval(max(low, least), min(high, greatest), level, method)
