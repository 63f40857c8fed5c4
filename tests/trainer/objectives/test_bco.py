"""BCO: a classifier with a moving threshold."""

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
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        c, r = 0.3 * case.c - 0.2, 0.3 * case.r - 0.2
        return float(np.mean(-log_sigmoid(c) - log_sigmoid(-r)))

    assert_golden("bco", formula, beta=0.3, dials={"reward_shift": 0.2})


def test_the_threshold_follows_the_mean_reward() -> None:
    bco = make("bco", shift_rate=0.25)
    assert bco.dials({}, {}, 0.0) == {"reward_shift": 0.0}
    seen = {"rewards/chosen": 3.0, "rewards/rejected": -1.0}
    first = bco.dials({"reward_shift": 0.0}, seen, 0.1)
    assert first == {"reward_shift": pytest.approx(0.25)}
    assert bco.dials(first, seen, 0.2) == {"reward_shift": pytest.approx(0.25 + 0.25 * 0.75)}


def test_without_a_rate_there_is_no_threshold() -> None:
    assert make("bco", shift_rate=0).dials({}, {"rewards/chosen": 9.0}, 0.5) == {}


def test_the_first_loss_is_2_ln_2() -> None:
    case = make_case()
    case.ref_w, case.ref_l = case.w, case.l
    bco = make("bco")
    loss, _ = run(case, bco, **bco.dials({}, {}, 0.0))
    np.testing.assert_allclose(float(loss.value.detach()), 2 * np.log(2), rtol=1e-6)
