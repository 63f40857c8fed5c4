"""IPO: squared distance from a target, on means over tokens."""

from __future__ import annotations

import numpy as np

from tests.trainer.objectives.pairs_support import (
    Case,
    assert_golden,
    make,
    make_case,
    mean_of,
    means,
    run,
)


def test_it_equals_numpy_with_means_not_sums() -> None:
    def formula(case: Case) -> float:
        c = means(case.w) - means(case.ref_w)
        r = means(case.l) - means(case.ref_l)
        return float(np.mean((c - r - 1 / (2 * 0.7)) ** 2))

    assert_golden("ipo", formula, beta=0.7)


def test_saying_every_token_twice_changes_nothing() -> None:
    case = make_case()
    short = Case(
        *([x[:4] for x in answers] for answers in (
            case.w, case.l, case.ref_w, case.ref_l, case.collision_w, case.collision_l
        ))
    )  # fmt: skip
    twice = Case(
        *([np.repeat(x, 2) for x in answers] for answers in (
            short.w, short.l, short.ref_w, short.ref_l, short.collision_w, short.collision_l
        ))
    )  # fmt: skip
    once_loss, twice_loss = (float(run(c, make("ipo"))[0].value.detach()) for c in (short, twice))
    np.testing.assert_allclose(twice_loss, once_loss, rtol=1e-5)


def test_the_first_loss_is_the_target_squared() -> None:
    case = make_case()
    case.ref_w, case.ref_l = case.w, case.l
    loss, _ = run(case, make("ipo", beta=0.1))
    np.testing.assert_allclose(float(loss.value.detach()), 25, rtol=1e-6)
    assert mean_of(loss, "rewards/accuracies") == 0.5
