"""cDPO: cross entropy against a softened label."""

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
        u = 0.3 * (case.c - case.r)
        return float(np.mean(-0.8 * log_sigmoid(u) - 0.2 * log_sigmoid(-u)))

    assert_golden("cdpo", formula, beta=0.3, label_smoothing=0.2)


def test_the_margin_stops_where_the_policy_is_as_sure_as_the_labels() -> None:
    case = make_case()
    wanted = np.log(0.8 / 0.2) / 0.3
    for row in range(len(case.w)):
        case.w[row][0] += wanted - (case.c - case.r)[row]
    _, (chosen, rejected) = run(case, make("cdpo", beta=0.3, label_smoothing=0.2))
    assert float(chosen.abs().max()) < 1e-6 and float(rejected.abs().max()) < 1e-6
