"""What several training seeds say of two recipes: seeds and prompts both vary, and cross.

Legend: S training seeds, P prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Crossed:
    """Variance of a difference of two recipes' means."""

    difference: float
    seeds: tuple[tuple[float, int], ...]
    """Variance and degrees of freedom that the seeds of each recipe bring."""
    by_prompts: float
    """The part that more prompts make smaller."""
    freedom: float
    """Satterthwaite's degrees of freedom."""

    @property
    def by_seeds(self) -> float:
        """The part that only more training seeds make smaller."""
        return sum(variance for variance, _ in self.seeds)

    @property
    def error(self) -> float:
        """Standard error."""
        return float(np.sqrt(self.by_seeds + self.by_prompts))

    @property
    def p(self) -> float:
        """Two-sided, of no difference between the recipes; 1 where nothing varies and nothing differs."""
        if self.error == 0:
            return 1.0 if self.difference == 0 else 0.0
        return float(2 * stats.t.sf(abs(self.difference) / self.error, self.freedom))

    def bounds(self, level: float) -> tuple[float, float]:
        """The t interval of that level."""
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.error
        return self.difference - half, self.difference + half


def crossed(candidate_SP: NDArray[np.float64], baseline_SP: NDArray[np.float64]) -> Crossed:
    """Two-way clustered variance: seeds plus prompts minus what both count, their interaction (Cameron,
    Gelbach and Miller 2011, "Robust inference with multiway clustering"), degrees of freedom by Satterthwaite
    (1946).

    Seeds of the two recipes are taken as independent. The variance is never less than that of seeds or of
    prompts alone. Two seeds a side at least. A bootstrap of so few seeds is far too sure: of three seeds it
    gives 2/3 of their variance.
    """
    seeds, cells = [], []
    for means_SP in (candidate_SP, baseline_SP):
        count, prompts = means_SP.shape
        seeds.append((float(means_SP.mean(axis=1).var(ddof=1)) / count, count - 1))
        rest_SP = (
            means_SP
            - means_SP.mean(axis=1, keepdims=True)
            - means_SP.mean(axis=0)
            + means_SP.mean()
        )
        cells.append(
            float((rest_SP**2).sum()) / ((count - 1) * max(1, prompts - 1)) / (count * prompts)
        )
    difference_P = candidate_SP.mean(axis=0) - baseline_SP.mean(axis=0)
    prompts = difference_P.size
    alone = float(difference_P.var(ddof=1)) / prompts
    by_prompts = max(0.0, alone - sum(cells))
    by_prompts = max(by_prompts, alone - sum(variance for variance, _ in seeds))
    freedom = satterthwaite((*seeds, (alone, prompts - 1)))
    return Crossed(float(difference_P.mean()), tuple(seeds), by_prompts, freedom)


def satterthwaite(parts: tuple[tuple[float, int], ...]) -> float:
    """Degrees of freedom of a sum of variances, each with its own; 1 at least."""
    weight = sum(variance**2 / freedom for variance, freedom in parts)
    if weight == 0:
        return float(max(freedom for _, freedom in parts))
    return max(1.0, sum(variance for variance, _ in parts) ** 2 / weight)
