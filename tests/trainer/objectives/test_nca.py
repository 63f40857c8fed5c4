"""NCA: absolute rewards, classified."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    run,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        c, r = 0.3 * case.c, 0.3 * case.r
        return float(np.mean(-log_sigmoid(c) - 0.5 * log_sigmoid(-c) - 0.5 * log_sigmoid(-r)))

    assert_golden("nca", formula, beta=0.3)


def test_the_first_loss_is_2_ln_2() -> None:
    case = make_case()
    case.ref_w, case.ref_l = case.w, case.l
    loss, _ = run(case, make("nca"))
    np.testing.assert_allclose(float(loss.value.detach()), 2 * np.log(2), rtol=1e-6)
