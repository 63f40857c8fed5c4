"""EXO: reverse KL to the labels' preference."""

from __future__ import annotations

import numpy as np
import pytest

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
        p = sigmoid(0.4 * (case.c - case.r))
        return float(np.mean(p * np.log(p / 0.9) + (1 - p) * np.log((1 - p) / 0.1)))

    assert_golden("exo", formula, beta=0.4, label_smoothing=0.1)


def test_it_is_0_where_the_policy_agrees_with_the_labels() -> None:
    case = make_case()
    for row in range(len(case.w)):
        case.w[row][0] += np.log(9) / 0.4 - (case.c - case.r)[row]
    loss, (chosen, _) = run(case, make("exo", beta=0.4, label_smoothing=0.1))
    assert abs(float(loss.value.detach())) < 1e-6 and float(chosen.abs().max()) < 1e-6


def test_a_label_without_doubt_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        make("exo", label_smoothing=0)


def test_a_hopeless_pair_stays_finite() -> None:
    case = make_case()
    case.w[0][0] -= 1e4
    loss, (chosen, rejected) = run(case, make("exo"))
    assert bool(loss.value.isfinite() & chosen.isfinite().all() & rejected.isfinite().all())
