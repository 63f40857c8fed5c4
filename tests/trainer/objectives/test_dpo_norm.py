"""Length-normalised DPO: means instead of sums."""

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
    sums,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        c = means(case.w) - means(case.ref_w)
        r = means(case.l) - means(case.ref_l)
        return float(np.mean(-log_sigmoid(4 * (c - r))))

    assert_golden("dpo-norm", formula, beta=4)


def test_the_reported_rewards_are_those_that_the_loss_sees() -> None:
    case = make_case()
    loss, _ = run(case, make("dpo-norm", beta=4))
    wanted = 4 * np.mean(means(case.w) - means(case.ref_w))
    np.testing.assert_allclose(mean_of(loss, "rewards/chosen"), wanted, rtol=1e-5)
    np.testing.assert_allclose(mean_of(loss, "logps/chosen"), np.mean(sums(case.w)), rtol=1e-5)
