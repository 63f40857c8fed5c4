"""ORPO: NLL and odds, without a reference."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    mean_of,
    means,
    run,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        p, q = np.exp(means(case.w)), np.exp(means(case.l))
        log_odds = np.log(p / (1 - p)) - np.log(q / (1 - q))
        return float(-np.concatenate(case.w).mean() - 0.3 * np.mean(log_sigmoid(log_odds)))

    assert_golden("orpo", formula, beta=0.3)


def test_it_needs_no_reference() -> None:
    assert make("orpo").uses == frozenset()


def test_odds_are_exact_near_both_ends() -> None:
    case = make_case()
    case.w = [np.full(4, -1e-4)] * 5
    case.l = [np.full(4, -60.0)] * 5
    loss, _ = run(case, make("orpo"))
    wanted = -1e-4 - np.log(-np.expm1(-1e-4)) + 60 + np.log1p(-np.exp(-60.0))
    np.testing.assert_allclose(mean_of(loss, "log_odds_chosen"), wanted, rtol=1e-5)


def test_the_odds_of_a_likely_answer_do_not_cancel() -> None:
    case = make_case()
    case.w = [np.full(4, -1e-5)] * 5
    case.l = [np.full(4, -0.7)] * 5
    loss, _ = run(case, make("orpo"))
    wanted = -1e-5 - np.log(-np.expm1(-1e-5)) + 0.7 + np.log1p(-np.exp(-0.7))
    np.testing.assert_allclose(mean_of(loss, "log_odds_chosen"), wanted, rtol=1e-6)


def test_a_certain_answer_stays_finite() -> None:
    case = make_case()
    case.w[0][:] = 0.0
    case.l[1][:] = 0.0
    loss, (chosen, rejected) = run(case, make("orpo"))
    assert bool(loss.value.isfinite() & chosen.isfinite().all() & rejected.isfinite().all())
