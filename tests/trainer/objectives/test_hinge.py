"""Hinge: a margin of 1 in reward, then silence."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import Case, assert_golden, make, make_case, run


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(np.maximum(0, 1 - 0.5 * (case.c - case.r))))

    assert_golden("hinge", formula, beta=0.5)


def test_a_pair_beyond_the_margin_has_no_gradient() -> None:
    case = make_case()
    case.w[2][0] += 100
    _, (chosen, rejected) = run(case, make("hinge", beta=0.5))
    assert float(chosen[2].abs().sum()) == 0 and float(rejected[2].abs().sum()) == 0
    assert float(chosen.abs().sum()) > 0
