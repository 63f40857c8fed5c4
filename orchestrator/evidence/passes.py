"""pass@k without bias, with intervals over prompts.

Source: Chen et al. 2021, "Evaluating large language models trained on code", arXiv 2107.03374, eq. 1.

Legend: S training seeds, P prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from orchestrator.evidence.differences import Difference, difference_of
from orchestrator.evidence.intervals import Interval, level_check, mean_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from orchestrator.evidence.arms import Arm, Pair

ENOUGH = 0.95
"""Share of prompts that the longest curve keeps by itself."""


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
    seeds: int
    """Training seeds that were averaged; the intervals are over prompts alone."""


def pass_at_k(solved: ArrayLike, samples: ArrayLike, k: int) -> NDArray[np.float64]:
    """1 - C(n - c, k) / C(n, k) for each prompt, n samples of which c solved it; shapes broadcast.

    The chance that k of the n samples, drawn without putting back, hold one that solved it. ValueError for k
    below 1, n < k, c > n or c < 0.
    """
    count, right = np.broadcast_arrays(
        np.asarray(samples, dtype=np.float64), np.asarray(solved, dtype=np.float64)
    )
    if k < 1 or (count < k).any():
        raise ValueError(
            f"k: {k}; give 1 or more, and at least as many samples of every prompt (the fewest are "
            f"{int(count.min()) if count.size else 0})"
        )
    if (right < 0).any() or (right > count).any():
        raise ValueError("solved: give 0 up to as many as there are samples, of every prompt")
    wrong = count - right
    # Logs of factorials: the binomials themselves overflow from about a thousand samples on.
    with np.errstate(invalid="ignore"):
        missed = np.exp(
            special.gammaln(wrong + 1)
            - special.gammaln(wrong - k + 1)
            - special.gammaln(count + 1)
            + special.gammaln(count - k + 1)
        )
    passed: NDArray[np.float64] = np.where(wrong < k, 1.0, 1.0 - missed)
    return passed


def pass_curve(
    arm: Arm,
    ks: Sequence[int] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PassCurve:
    """The curve of an arm with scores 0 or 1.

    `ks` None: 1, 2, 4, … and the largest k that 95 % of the prompts have samples for. All points stand on the
    same prompts, so the curve never falls. ValueError where scores are not 0 or 1, or no prompt has as many
    samples as the largest k.
    """
    level_check(level, resamples)
    solved_SP, samples_SP = _counts(arm.name, arm.scores)
    if ks is None:
        longest = int(np.quantile(samples_SP.min(axis=0), 1 - ENOUGH, method="lower"))
        ks = sorted({2**power for power in range(longest.bit_length())} | {longest})
    largest = max(ks, default=0)
    kept_P = (samples_SP >= largest).all(axis=0)
    if largest < 1 or not kept_P.any():
        raise ValueError(f"ks: {list(ks)}; give numbers from 1 to {int(samples_SP.max())}")
    points = []
    for k in ks:
        passed_P = pass_at_k(solved_SP[:, kept_P], samples_SP[:, kept_P], k).mean(axis=0)
        interval = mean_interval(
            passed_P, bounds=(0.0, 1.0), level=level, resamples=resamples, seed=seed
        )
        points.append(PassPoint(int(k), float(passed_P.mean()), interval))
    return PassCurve(arm.name, tuple(points), int(kept_P.sum()), int((~kept_P).sum()), arm.seeds)


def pass_difference(
    pair: Pair, k: int, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Candidate's pass@k minus the baseline's, on the prompts where every training seed of both has k samples
    with a score.

    ValueError where fewer than two prompts have, or scores are not 0 or 1.
    """
    counts = [
        _counts(name, scores)
        for name, scores in (
            (pair.candidate, pair.candidate_scores_SPK),
            (pair.baseline, pair.baseline_scores_SPK),
        )
    ]
    kept_P = np.vstack([samples_SP >= k for _, samples_SP in counts]).all(axis=0)
    if kept_P.sum() < 2:
        raise ValueError(
            f"k: fewer than two prompts have {k} samples on both sides; give a smaller k"
        )
    candidate_SP, baseline_SP = (
        pass_at_k(solved_SP[:, kept_P], samples_SP[:, kept_P], k)
        for solved_SP, samples_SP in counts
    )
    return difference_of(
        candidate_SP, baseline_SP, span=1.0, level=level, resamples=resamples, seed=seed
    )


def _counts(
    name: str, scores_SPK: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(S, P) how many samples solved each prompt, and how many have a score."""
    there = ~np.isnan(scores_SPK)
    if not np.isin(scores_SPK[there], (0.0, 1.0)).all():
        raise ValueError(
            f"scores of {name!r}: pass@k needs 0 or 1; say first from which score on an answer solves its prompt"
        )
    return np.nansum(scores_SPK, axis=2).astype(np.int64), there.sum(axis=2)
