"""Bradley-Terry with ties, after Davidson 1970, fitted to many weightings of the same votes at once.

The chances of left, right and tie are as exp(t / 2), exp(-t / 2) and exp(tie), where t = x · strengths
(Davidson 1970, divided by the root of both strengths). Davidson's and not Rao and Kupper's (1967):
there a tie is half a win to either side in the equations of the strengths, so that without covariates the
strengths come from win totals with ties as halves, whatever the tie parameter is, and the model stays of
exponential form, whose likelihood has one peak.

Legend: N rows, F features (arms, the left side, style), R weightings, O outcomes left, right, tie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR = 0.1
"""Inverse variance of the prior of each strength, logit scale: a standard deviation of 3.2 logits, odds of 24
to 1. It keeps an arm that never lost finite, and counts for less than one vote."""
LONGEST = 4.0
"""Longest step in any coefficient: Newton's own may leave the region where it converges."""


def davidson_fit(
    x_NF: NDArray[np.float64], outcomes_NO: NDArray[np.float64], weights_RN: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R, F) strengths and (R,) tie parameters, by Newton's method on the penalised likelihood.

    `outcomes_NO` counts the outcomes of each row. Where there is no tie at all the tie parameter is minus
    infinity and the model is Bradley and Terry's.
    """
    ties = bool(outcomes_NO[:, 2].any())
    features = x_NF.shape[1]
    size = features + ties
    outer_NF = (x_NF[:, :, None] * x_NF[:, None, :]).reshape(len(x_NF), -1)
    votes_N = outcomes_NO.sum(axis=1)
    decided_N = (outcomes_NO[:, 0] - outcomes_NO[:, 1]) / 2
    found_RF = np.zeros((len(weights_RN), size))
    for _ in range(100):
        lean_RN, tie_RN = _chances(x_NF, found_RF, features)
        slope_RF = np.empty_like(found_RF)
        slope_RF[:, :features] = (weights_RN * (decided_N - votes_N * lean_RN / 2)) @ x_NF
        curve_RFF = np.zeros((len(weights_RN), size, size))
        heavy_RN = weights_RN * votes_N
        curve_RFF[:, :features, :features] = (
            (heavy_RN * (1 - tie_RN - lean_RN**2) / 4) @ outer_NF
        ).reshape(-1, features, features)
        if ties:
            slope_RF[:, -1] = (weights_RN * (outcomes_NO[:, 2] - votes_N * tie_RN)).sum(axis=1)
            cross_RF = -(heavy_RN * lean_RN * tie_RN / 2) @ x_NF
            curve_RFF[:, :features, -1] = curve_RFF[:, -1, :features] = cross_RF
            curve_RFF[:, -1, -1] = (heavy_RN * tie_RN * (1 - tie_RN)).sum(axis=1)
        slope_RF -= PRIOR * found_RF
        curve_RFF += PRIOR * np.eye(size)
        step_RF = np.linalg.solve(curve_RFF, slope_RF[:, :, None])[:, :, 0]
        step_RF = np.clip(step_RF, -LONGEST, LONGEST)
        found_RF = found_RF + step_RF
        if np.abs(step_RF).max() < 1e-8:
            break
    tie_R = found_RF[:, -1] if ties else np.full(len(found_RF), -np.inf)
    return found_RF[:, :features], tie_R


def _chances(
    x_NF: NDArray[np.float64], found_RF: NDArray[np.float64], features: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R, N) chance of left minus chance of right, and chance of a tie."""
    half_RN = found_RF[:, :features] @ x_NF.T / 2
    tie_RN = (
        np.broadcast_to(found_RF[:, -1:], half_RN.shape)
        if found_RF.shape[1] > features
        else np.full(half_RN.shape, -np.inf)
    )
    top_RN = np.maximum(np.abs(half_RN), tie_RN)
    left_RN, right_RN, even_RN = (np.exp(e - top_RN) for e in (half_RN, -half_RN, tie_RN))
    total_RN = left_RN + right_RN + even_RN
    return (left_RN - right_RN) / total_RN, even_RN / total_RN
