"""SPPO: both log ratios are drawn to their targets."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import Case, assert_golden, make, make_case, run


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean((case.c - 1 / 0.8) ** 2 + (case.r + 1 / 0.8) ** 2))

    assert_golden("sppo", formula, beta=0.4)


def test_it_rests_at_its_targets() -> None:
    case = make_case()
    for row in range(len(case.w)):
        case.w[row][0] += 1 / 0.8 - case.c[row]
        case.l[row][0] += -1 / 0.8 - case.r[row]
    loss, _ = run(case, make("sppo", beta=0.4))
    assert abs(float(loss.value.detach())) < 1e-9
