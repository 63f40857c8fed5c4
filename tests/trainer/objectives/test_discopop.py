"""DiscoPOP: logistic and exponential loss, blended."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    run,
    sigmoid,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        u = 0.1 * (case.c - case.r)
        gate = sigmoid(u / 0.2)
        return float(np.mean(-log_sigmoid(u) * (1 - gate) + np.exp(-u) * gate))

    assert_golden("discopop", formula, beta=0.1, tau=0.2)


@pytest.mark.parametrize(("reward", "sign"), [(-0.2, -1), (-0.05, 1), (0.05, 1), (0.1, -1)])
def test_its_slope_turns_where_the_paper_says(reward: float, sign: int) -> None:
    # Local minimum and maximum at log ratios of -2.3714 and 1.4401 with beta = tau = 0.05.
    case = make_case()
    for row in range(len(case.w)):
        case.w[row][0] += reward / 0.05 - (case.c - case.r)[row]
    _, (chosen, _) = run(case, make("discopop", beta=0.05, tau=0.05))
    assert np.sign(float(chosen.sum())) == sign


def test_at_a_width_of_1_it_falls_everywhere() -> None:
    for reward in (-3.0, -0.1, 0.0, 0.1, 3.0):
        case = make_case()
        for row in range(len(case.w)):
            case.w[row][0] += reward - (case.c - case.r)[row]
        assert float(run(case, make("discopop", beta=1, tau=1))[1][0].sum()) < 0


def test_a_hopeless_pair_stays_finite() -> None:
    case = make_case()
    case.w[0][0] -= 1e4
    loss, (chosen, rejected) = run(case, make("discopop"))
    assert bool(loss.value.isfinite() & chosen.isfinite().all() & rejected.isfinite().all())
