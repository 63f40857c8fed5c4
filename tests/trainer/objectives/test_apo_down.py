"""APO-down: both down, the rejected one more."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    make,
    make_case,
    run,
    sigmoid,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(sigmoid(0.3 * case.c) + 1 - sigmoid(0.3 * (case.c - case.r))))

    assert_golden("apo-down", formula, beta=0.3)


def test_the_first_loss_is_1() -> None:
    case = make_case()
    case.ref_w, case.ref_l = case.w, case.l
    loss, (chosen, rejected) = run(case, make("apo-down"))
    np.testing.assert_allclose(float(loss.value.detach()), 1, rtol=1e-6)
    assert float(rejected.sum()) > 0
    # At the start both terms pull equally at the chosen answer: only the rejected one moves.
    assert abs(float(chosen.sum())) < 1e-7
