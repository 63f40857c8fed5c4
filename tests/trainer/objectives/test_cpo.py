"""CPO: DPO without a reference, with NLL."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    mean_of,
    run,
    sums,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        pair = -log_sigmoid(0.3 * (sums(case.w) - sums(case.l)))
        return float(np.mean(pair) - 0.6 * np.concatenate(case.w).mean())

    assert_golden("cpo", formula, beta=0.3, sft_weight=0.6)


def test_it_needs_no_reference_and_reports_its_nll() -> None:
    cpo = make("cpo")
    assert cpo.uses == frozenset()
    case = make_case()
    loss, _ = run(case, cpo)
    np.testing.assert_allclose(mean_of(loss, "nll_loss"), -np.concatenate(case.w).mean(), rtol=1e-5)
