"""SimPO: mean log-probabilities, a target margin, no reference."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import Case, assert_golden, log_sigmoid, make, means


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(-log_sigmoid(2.5 * (means(case.w) - means(case.l)) - 0.8)))

    assert_golden("simpo", formula, beta=2.5, gamma=0.8)


def test_the_nll_can_be_mixed_in() -> None:
    def formula(case: Case) -> float:
        pair = -log_sigmoid(2.0 * (means(case.w) - means(case.l)) - 1.0)
        return float(np.mean(pair) - 0.5 * np.concatenate(case.w).mean())

    assert_golden("simpo", formula, sft_weight=0.5)


def test_it_needs_no_reference() -> None:
    assert make("simpo").uses == frozenset()
