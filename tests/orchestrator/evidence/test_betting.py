"""Betting bounds equal a plain loop over the published formulas, and hold at every look."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.evidence.betting import bets, betting_bounds, betting_p, log_wealth


def wealth_by_hand(values: list[float], mean: float, alpha: float) -> tuple[float, float]:
    """Largest wealth of betting above and below, straight from the paper's text, one value at a time."""
    above = below = 1.0
    best = [1.0, 1.0]
    total, squares = 0.5, 0.25
    for seen, value in enumerate(values, start=1):
        variance = squares / seen
        size = np.sqrt(2 * np.log(2 / alpha) / (variance * seen * np.log(seen + 1)))
        above *= 1 + min(size, 0.5 / mean) * (value - mean)
        below *= 1 - min(size, 0.5 / (1 - mean)) * (value - mean)
        best = [max(best[0], above), max(best[1], below)]
        total += value
        squares += (value - total / (seen + 1)) ** 2
    return best[0], best[1]


@pytest.mark.parametrize("mean", [0.2, 0.5, 0.7])
def test_wealth_is_that_of_the_paper(mean: float) -> None:
    values = np.random.default_rng(0).beta(2, 3, 120)
    x_P1 = values[:, None]
    above_P1, below_P1 = log_wealth(x_P1, bets(x_P1, alpha=0.1), np.array([mean]))
    expected = wealth_by_hand(values.tolist(), mean, 0.1)
    # The loop starts with the wealth of 1 that everybody has before the first value.
    assert max(1.0, np.exp(above_P1.max())) == pytest.approx(expected[0], rel=1e-9)
    assert max(1.0, np.exp(below_P1.max())) == pytest.approx(expected[1], rel=1e-9)
    assert max(expected) > 5


def test_bounds_lie_where_a_bettor_gets_rich() -> None:
    values = np.random.default_rng(1).beta(2, 3, 200)
    low_C, high_C = betting_bounds(values[:, None], alpha=0.05)
    rich = 2 / 0.05
    for bound, side, outside in ((low_C[0], 0, -1e-6), (high_C[0], 1, 1e-6)):
        assert wealth_by_hand(values.tolist(), bound + outside, 0.05)[side] >= rich
        assert wealth_by_hand(values.tolist(), bound - outside, 0.05)[side] < rich


def test_bounds_only_ever_close_in() -> None:
    x_P1 = np.random.default_rng(2).integers(0, 2, 300)[:, None].astype(float)
    found = [betting_bounds(x_P1[:count], alpha=0.05) for count in (1, 10, 50, 100, 300)]
    lows, highs = ([float(pair[side][0]) for pair in found] for side in (0, 1))
    assert lows == sorted(lows)
    assert highs == sorted(highs, reverse=True)


def test_p_crosses_the_level_when_the_interval_loses_the_mean() -> None:
    x_P1 = np.random.default_rng(3).beta(4, 2, 150)[:, None]
    p_P = betting_p(x_P1, 0.5, alpha=0.05)[:, 0]
    assert (np.diff(p_P) <= 0).all()
    first = int((p_P <= 0.05).argmax())
    assert p_P[first] <= 0.05
    assert betting_bounds(x_P1[: first + 1], alpha=0.05)[0][0] >= 0.5
    assert betting_bounds(x_P1[:first], alpha=0.05)[0][0] < 0.5


def test_a_bet_knows_nothing_of_the_value_it_is_on() -> None:
    x_P1 = np.full((30, 1), 0.5)
    other_P1 = x_P1.copy()
    other_P1[20] = 1.0
    same = bets(x_P1, alpha=0.05)[:, 0] == bets(other_P1, alpha=0.05)[:, 0]
    assert same[:21].all()
    assert not same[21:].any()
