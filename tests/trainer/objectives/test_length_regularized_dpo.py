"""Length-regularised DPO: numpy, and the sign of the length's pull."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    CHOSEN_LENGTHS,
    REJECTED_LENGTHS,
    Case,
    assert_golden,
    log_sigmoid,
    make,
    make_case,
    run,
)

LONGER = np.array(CHOSEN_LENGTHS) - np.array(REJECTED_LENGTHS)


def test_it_equals_numpy() -> None:
    def formula(case: Case) -> float:
        return float(np.mean(-log_sigmoid(0.3 * (case.c - case.r) + 0.2 * LONGER)))

    assert_golden("length-regularized-dpo", formula, beta=0.3, alpha=0.2)


def test_the_longer_the_chosen_answer_the_less_it_is_pushed() -> None:
    case = make_case()
    _, (plain, _) = run(case, make("dpo"))
    _, (regular, _) = run(case, make("length-regularized-dpo", alpha=0.05))
    push, less = -plain[:, 0], -regular[:, 0]
    for row, longer in enumerate(LONGER):
        assert np.sign(float(push[row] - less[row])) == np.sign(longer)


def test_without_its_weight_it_is_dpo() -> None:
    one, other = (
        run(make_case(), make(*method))[0].value.detach()
        for method in (("length-regularized-dpo",), ("dpo",))
    )
    assert one != other
    same = run(make_case(), make("length-regularized-dpo", alpha=0))[0].value.detach()
    assert same == other
