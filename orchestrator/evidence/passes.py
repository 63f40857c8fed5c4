"""pass@k without bias (Chen et al. 2021, arXiv 2107.03374, eq. 1), with intervals over prompts.

Legend: S training seeds, P prompts, K samples a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from orchestrator.evidence.arms import Arm, Pair
    from orchestrator.evidence.differences import Difference
    from orchestrator.evidence.intervals import Interval


@dataclass(frozen=True)
class PassPoint:
    """pass@k at one k."""

    k: int
    estimate: float
    interval: Interval


@dataclass(frozen=True)
class PassCurve:
    """pass@k of an arm over k."""

    arm: str
    points: tuple[PassPoint, ...]
    prompts: int
    """Prompts that every point stands on: those with at least the largest k samples that have a score."""
    left_out: int
    """Prompts with fewer."""


def pass_at_k(solved: ArrayLike, samples: ArrayLike, k: int) -> NDArray[np.float64]:
    """1 - C(n - c, k) / C(n, k) for each prompt, n samples of which c solved it; shapes broadcast. ValueError
    where n < k or c > n."""
    raise NotImplementedError


def pass_curve(
    arm: Arm,
    ks: Sequence[int] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PassCurve:
    """The curve of an arm with scores 0 or 1. `ks` None: 1, 2, 4, ... and the largest k that 95 % of the
    prompts have samples for.

    ValueError where scores are not 0 or 1, or no prompt has as many samples as the largest k.
    """
    raise NotImplementedError


def pass_difference(
    pair: Pair, k: int, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Candidate's pass@k minus the baseline's, on the prompts where both have k samples."""
    raise NotImplementedError
