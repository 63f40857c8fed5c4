"""Betting on the mean of bounded values: who bets against the true mean does not get rich, whenever one looks.

The hedged capital process with predictable plug-in bets (Waudby-Smith and Ramdas 2024, "Estimating means of
bounded random variables by betting"): against the mean m, wealth is the product over values of 1 + bet (x - m)
for one bettor and of 1 - bet (x - m) for the other; the t-th bet is sqrt(2 log(2 / alpha) / (variance so far ·
t log(t + 1))), cut so that no bet costs more than half of the wealth. The means against which neither ever had
2 / alpha are the interval.

Legend: P prompts, C comparisons side by side; values x lie in 0..1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHARE = 0.5
"""Largest share of the wealth that one bet may cost (the paper's c)."""
HALVINGS = 40
"""Of the interval 0..1 in the search for a bound: 1e-12."""


def bets(
    x_PC: NDArray[np.float64], *, alpha: float, horizon: int | None = None
) -> NDArray[np.float64]:
    """(P, C) the size of each bet before it is cut, from the values before it alone.

    `horizon`: bets made for a single look after so many values; None makes them for looks at any time.
    """
    seen_P1 = np.arange(1, x_PC.shape[0] + 1, dtype=np.float64)[:, None]
    mean_PC = (0.5 + np.cumsum(x_PC, axis=0)) / (seen_P1 + 1)
    variance_PC = (0.25 + np.cumsum((x_PC - mean_PC) ** 2, axis=0)) / (seen_P1 + 1)
    before_PC = np.vstack([np.full((1, x_PC.shape[1]), 0.25), variance_PC[:-1]])
    pace = seen_P1 * np.log(seen_P1 + 1) if horizon is None else float(horizon)
    sizes: NDArray[np.float64] = np.sqrt(2 * np.log(2 / alpha) / (before_PC * pace))
    return sizes


def log_wealth(
    x_PC: NDArray[np.float64], bets_PC: NDArray[np.float64], mean_C: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(P, C) log wealth after each value of who bets that the true mean is above, and of who bets that it is
    below, `mean_C`; both start with 1."""
    with np.errstate(divide="ignore"):
        above_PC = np.minimum(bets_PC, SHARE / mean_C)
        below_PC = np.minimum(bets_PC, SHARE / (1 - mean_C))
    off_PC = x_PC - mean_C
    return np.cumsum(np.log1p(above_PC * off_PC), axis=0), np.cumsum(
        np.log1p(-below_PC * off_PC), axis=0
    )


def betting_bounds(
    x_PC: NDArray[np.float64], *, alpha: float, horizon: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(C,) least and greatest mean against which no bettor ever had 2 / alpha times the start.

    The wealth of betting "above" falls as the mean in question rises, so each bound is found by halving.
    """
    bets_PC = bets(x_PC, alpha=alpha, horizon=horizon)
    rich = np.log(2 / alpha)
    found = []
    for side in (0, 1):
        out_C = np.full(x_PC.shape[1], float(side))
        in_C = np.full(x_PC.shape[1], 1.0 - side)
        for _ in range(HALVINGS):
            middle_C = (out_C + in_C) / 2
            out = log_wealth(x_PC, bets_PC, middle_C)[side].max(axis=0) >= rich
            out_C, in_C = np.where(out, middle_C, out_C), np.where(out, in_C, middle_C)
        found.append(out_C)
    return found[0], found[1]


def betting_p(x_PC: NDArray[np.float64], mean: float, *, alpha: float) -> NDArray[np.float64]:
    """(P, C) always-valid p of "the true mean is `mean`" after each value; never grows."""
    wealth = log_wealth(x_PC, bets(x_PC, alpha=alpha), np.full(x_PC.shape[1], mean))
    best_PC = np.maximum.accumulate(np.maximum(*wealth), axis=0)
    ps: NDArray[np.float64] = np.minimum(1.0, 2 * np.exp(-best_PC))
    return ps
