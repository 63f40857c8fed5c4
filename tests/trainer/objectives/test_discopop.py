"""DiscoPOP: logistic and exponential loss, blended."""

from __future__ import annotations

import numpy as np

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


def test_a_hopeless_pair_stays_finite() -> None:
    case = make_case()
    case.w[0][0] -= 1e4
    loss, (chosen, rejected) = run(case, make("discopop"))
    assert bool(loss.value.isfinite() & chosen.isfinite().all() & rejected.isfinite().all())
