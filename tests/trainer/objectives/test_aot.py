"""AOT: sorted lists are compared, not pairs."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    run,
    sums,
)


def test_the_paired_form_equals_numpy() -> None:
    def formula(case: Case) -> float:
        policy = np.sort(sums(case.w) - sums(case.l))
        reference = np.sort(sums(case.ref_w) - sums(case.ref_l))
        u = 0.3 * (policy - reference)
        return float(np.mean(-0.9 * log_sigmoid(u) - 0.1 * log_sigmoid(-u)))

    assert_golden("aot", formula, beta=0.3, label_smoothing=0.1)


def test_the_unpaired_form_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(-log_sigmoid(0.3 * (np.sort(case.c) - np.sort(case.r)))))

    assert_golden("aot", formula, beta=0.3, paired=False)


def test_the_unpaired_form_does_not_ask_which_answers_belong_together() -> None:
    case, mixed = make_case(), make_case()
    mixed.l, mixed.ref_l = case.l[::-1], case.ref_l[::-1]
    one, other = (float(run(c, make("aot", paired=False))[0].value.detach()) for c in (case, mixed))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_it_couples_the_pairs_of_a_batch() -> None:
    assert make("aot").couples
