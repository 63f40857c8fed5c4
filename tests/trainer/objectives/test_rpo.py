"""RPO: DPO plus NLL per token, each answer counted once."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    means,
    run,
)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(-log_sigmoid(0.3 * (case.c - case.r)) - 0.7 * means(case.w)))

    assert_golden("rpo", formula, beta=0.3, sft_weight=0.7)


def test_dpo_counts_each_token_once_instead() -> None:
    case = make_case()
    tokens = np.concatenate(case.w)
    dpo = float(run(case, make("dpo", beta=0.3, sft_weight=0.7))[0].value.detach())
    rpo = float(run(case, make("rpo", beta=0.3, sft_weight=0.7))[0].value.detach())
    np.testing.assert_allclose(rpo - dpo, 0.7 * (tokens.mean() - means(case.w).mean()), rtol=1e-4)


def test_without_its_nll_it_is_refused() -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        make("rpo", sft_weight=0)
