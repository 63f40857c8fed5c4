"""Length-controlled win rate: what the win rate were if both answers had the same length.

Source: Dubois, Galambosi, Liang and Hashimoto 2024, "Length-controlled AlpacaEval", arXiv 2404.04475, section
3: a logistic regression with a term for the model, one for tanh of the length difference over its standard
deviation and, where it is known, one for the difficulty of the instruction; the length term is then set to 0.
Two things are not done here: the published leaderboard adds answers of gamed baselines to steady its fit, and
picks an L1 penalty by cross-validation; this is the plain maximum likelihood, with an interval.

Legend: N outcomes, P prompts, R resamples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from orchestrator.evidence.intervals import (
    FEWEST,
    Interval,
    draws,
    level_check,
    mean_interval,
    percentile_interval,
)
from orchestrator.evidence.logistic import logistic_fit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

FEW = 10
"""Outcomes below which no regression is made."""


@dataclass(frozen=True)
class LengthControlled:
    """Win rates of the candidate, 0 to 1; a tie counts half, each prompt as much as any other."""

    win_rate: float
    """As judged."""
    win_interval: Interval
    length_controlled: float
    """As predicted for equal lengths."""
    length_controlled_interval: Interval
    length_weight: float
    """Weight of tanh(length difference / its standard deviation) in the logit: above 0, longer answers win
    more. 0 where all differences are the same."""
    outcomes: int
    prompts: int


def length_controlled(
    wins: ArrayLike,
    candidate_lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    *,
    prompts: Sequence[str] | None = None,
    difficulty: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> LengthControlled:
    """From outcomes (N,): 1 the candidate won, 0.5 tie, 0 the baseline won, or the judge's probability;
    lengths in any one unit (N,).

    `prompts` (N,) clusters the bootstrap (None: each outcome is a prompt of its own). `difficulty` (N,) is the
    paper's instruction term, where it is known. NaN outcomes are left out. ValueError for outcomes outside 0..1,
    negative lengths, arrays of unequal length or fewer than 10 outcomes.
    """
    level_check(level, resamples)
    wins_N, longer_N, cluster_N, extra_NF = _checked(
        wins, candidate_lengths, baseline_lengths, prompts, difficulty
    )
    sizes_P = np.bincount(cluster_N)
    weights_N = 1.0 / sizes_P[cluster_N]
    spread = float(longer_N.std(ddof=1))
    length_NF = np.tanh(longer_N / spread)[:, None] if spread > 0 else np.zeros((wins_N.size, 0))
    x_NF = np.hstack([np.ones((wins_N.size, 1)), extra_NF, length_NF])
    level_NF = x_NF[:, : 1 + extra_NF.shape[1]]

    def rates(counts_RP: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(R, F) coefficients and (R,) win rates at equal length."""
        weights_RN = counts_RP[:, cluster_N] * weights_N
        found_RF = logistic_fit(x_NF, wins_N, weights_RN)
        equal_RN = special.expit(found_RF[:, : level_NF.shape[1]] @ level_NF.T)
        return found_RF, (weights_RN * equal_RN).sum(axis=1) / weights_RN.sum(axis=1)

    found_RF, rate_R = rates(np.ones((1, sizes_P.size)))
    win_P = np.bincount(cluster_N, weights=wins_N * weights_N).astype(np.float64)
    win_interval = mean_interval(
        win_P, bounds=(0.0, 1.0), level=level, resamples=resamples, seed=seed
    )
    if win_P.size - int(np.unique(win_P, return_counts=True)[1].max()) < FEWEST:
        # Nearly all outcomes are the same: a regression has nothing to tell lengths from.
        interval = win_interval
    else:
        drawn_R = np.concatenate(
            [rates(counts)[1] for counts in draws(sizes_P.size, resamples, seed)]
        )
        interval = percentile_interval(drawn_R, level=level, prompts=sizes_P.size)
    return LengthControlled(
        win_rate=float(win_P.mean()),
        win_interval=win_interval,
        length_controlled=float(rate_R[0]),
        length_controlled_interval=interval,
        length_weight=float(found_RF[0, -1]) if spread > 0 else 0.0,
        outcomes=wins_N.size,
        prompts=sizes_P.size,
    )


def _checked(
    wins: ArrayLike,
    candidate_lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    prompts: Sequence[str] | None,
    difficulty: ArrayLike | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Outcomes (N,), length differences (N,), numbers of prompts (N,), difficulty (N, 0 or 1); without NaN
    outcomes."""
    given = {
        "wins": np.asarray(wins, dtype=np.float64),
        "candidate_lengths": np.asarray(candidate_lengths, dtype=np.float64),
        "baseline_lengths": np.asarray(baseline_lengths, dtype=np.float64),
    }
    if difficulty is not None:
        given["difficulty"] = np.asarray(difficulty, dtype=np.float64)
    wins_N = given["wins"]
    names = (
        np.arange(wins_N.size).astype(str) if prompts is None else np.asarray(prompts, dtype=str)
    )
    for name, values in {**given, "prompts": names}.items():
        if values.shape != wins_N.shape or wins_N.ndim != 1:
            raise ValueError(
                f"{name}: give one for each outcome; there are {values.shape} for {wins_N.shape}"
            )
    kept_N = ~np.isnan(wins_N)
    if kept_N.sum() < FEW:
        raise ValueError(
            f"wins: {int(kept_N.sum())} outcomes are too few for a regression; give {FEW} or more"
        )
    if not ((wins_N[kept_N] >= 0) & (wins_N[kept_N] <= 1)).all():
        raise ValueError(
            "wins: give 1 for a win of the candidate, 0 for one of the baseline, 0.5 for a tie"
        )
    for name in given.keys() - {"wins"}:
        if not np.isfinite(given[name][kept_N]).all():
            raise ValueError(f"{name}: a number is missing or infinite")
        if name.endswith("lengths") and (given[name][kept_N] < 0).any():
            raise ValueError(f"{name}: a length is negative")
    longer_N = (given["candidate_lengths"] - given["baseline_lengths"])[kept_N]
    cluster_N = np.unique(names[kept_N], return_inverse=True)[1]
    extra_NF = np.zeros((int(kept_N.sum()), 0))
    if difficulty is not None:
        extra_NF = given["difficulty"][kept_N][:, None]
    return wins_N[kept_N], longer_N, cluster_N, extra_NF
