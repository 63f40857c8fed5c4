"""WPO: pairs weigh by how likely the policy is to say them."""

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


def weights(case: Case) -> np.ndarray:
    w = [(x - y).mean() for x, y in zip(case.w, case.collision_w, strict=True)]
    r = [(x - y).mean() for x, y in zip(case.l, case.collision_l, strict=True)]
    return np.exp(np.array(w) + np.array(r))


def test_it_equals_numpy_and_its_weights_have_no_gradient() -> None:
    fixed = weights(make_case())

    def formula(case: Case) -> float:
        return float(np.mean(-fixed * log_sigmoid(0.3 * (case.c - case.r))))

    assert_golden("wpo", formula, beta=0.3)


def test_a_weight_may_exceed_1() -> None:
    case = make_case()
    case.collision_w = [np.full(len(x), -8.0) for x in case.w]
    assert weights(case).max() > 1
    loss, _ = run(case, make("wpo", beta=0.3))
    wanted = np.mean(-weights(case) * log_sigmoid(0.3 * (case.c - case.r)))
    np.testing.assert_allclose(float(loss.value.detach()), wanted, rtol=1e-5)


def test_it_asks_for_what_it_needs() -> None:
    assert make("wpo").uses == {"reference", "collision"}
