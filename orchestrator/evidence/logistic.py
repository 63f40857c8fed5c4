"""Logistic regression on outcomes from 0 to 1, fitted to many weightings of the same rows at once.

Legend: N rows, F features, R weightings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import NDArray

RIDGE = 1e-6
"""Strength of the prior that keeps the fit finite where features separate all outcomes; without any,
coefficients differ from maximum likelihood in the seventh digit."""
LONGEST = 4.0
"""Longest step in any coefficient: Newton's own may leave the region where it converges."""


def logistic_fit(
    x_NF: NDArray[np.float64], y_N: NDArray[np.float64], weights_RN: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R, F) coefficients of each weighting, by Newton's method (McCullagh and Nelder 1989, chapter 4)."""
    features = x_NF.shape[1]
    outer_NF = (x_NF[:, :, None] * x_NF[:, None, :]).reshape(len(x_NF), -1)
    found_RF = np.zeros((len(weights_RN), features))
    for _ in range(100):
        p_RN = special.expit(found_RF @ x_NF.T)
        slope_RF = (weights_RN * (y_N - p_RN)) @ x_NF - RIDGE * found_RF
        curve_RFF = ((weights_RN * p_RN * (1 - p_RN)) @ outer_NF).reshape(-1, features, features)
        curve_RFF += RIDGE * np.eye(features)
        step_RF = np.linalg.solve(curve_RFF, slope_RF[:, :, None])[:, :, 0]
        step_RF = np.clip(step_RF, -LONGEST, LONGEST)
        found_RF += step_RF
        if np.abs(step_RF).max() < 1e-9:
            break
    return found_RF
