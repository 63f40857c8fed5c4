"""Robust DPO: unbiased under swapped labels."""

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
        u = 0.3 * (case.c - case.r)
        return float(np.mean((-0.8 * log_sigmoid(u) + 0.2 * log_sigmoid(-u)) / 0.6))

    assert_golden("robust-dpo", formula, beta=0.3, label_smoothing=0.2)


def test_its_mean_over_swaps_is_the_loss_of_the_clean_label() -> None:
    case = make_case()
    swapped = Case(case.l, case.w, case.ref_l, case.ref_w, case.collision_l, case.collision_w)
    robust = make("robust-dpo", label_smoothing=0.2)
    expected = 0.8 * run(case, robust)[0].value + 0.2 * run(swapped, robust)[0].value
    clean = run(case, make("dpo"))[0].value
    np.testing.assert_allclose(float(expected.detach()), float(clean.detach()), rtol=1e-5)


def test_a_coin_toss_is_refused() -> None:
    with pytest.raises(ValueError, match="less than"):
        make("robust-dpo", label_smoothing=0.5)
