"""The paired permutation test: scipy's values, McNemar's on right and wrong, and its size by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.evidence import Arm, Arms, Pair, SignFlip, Table, mcnemar, sign_flip
from orchestrator.evidence.sign_flips import drawn_ps
from tests.orchestrator.evidence.simulated import SCENARIOS, Scenario, rejections, with_gain


def pair(difference: object) -> Pair:
    values_P = np.asarray(difference, float)
    names = tuple(f"p{at}" for at in range(values_P.size))
    return Arms(names, (Arm("a", values_P), Arm("b", np.zeros(values_P.size)))).pair("a", "b")


def of(difference: object, **how: int) -> SignFlip:
    return sign_flip(pair(difference), **how)


def test_of_few_prompts_it_is_exact_and_equals_scipy() -> None:
    values_P = np.random.default_rng(0).normal(0.4, 1, 10)
    found = of(values_P)
    reference = stats.permutation_test(
        (values_P, np.zeros(10)),
        lambda x, y: np.mean(x - y),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert found.exact
    assert found.draws == 1024
    assert found.p == pytest.approx(reference.pvalue, rel=1e-12)


@pytest.mark.parametrize(("gains", "losses"), [(7, 1), (3, 3), (11, 2), (0, 5)])
def test_on_right_and_wrong_it_is_mcnemar(gains: int, losses: int) -> None:
    found = of([1] * gains + [-1] * losses + [0] * 20)
    reference = mcnemar(Table(0, gains, losses, 20))
    assert found.p == pytest.approx(reference.exact, rel=1e-12)
    assert found.mid_p == pytest.approx(reference.mid_p, rel=1e-12)


def test_drawn_patterns_come_near_the_exact_ones() -> None:
    values_P = np.random.default_rng(1).normal(0.5, 1, 16)
    exact = of(values_P)
    p_C, _ = drawn_ps(values_P[:, None], draws=50_000, seed=0)
    assert exact.exact
    assert p_C[0] == pytest.approx(exact.p, abs=0.003)
    drawn = of(np.append(values_P, 1e-7))
    assert not drawn.exact
    assert drawn.p == pytest.approx(exact.p, abs=0.01)


def test_what_was_seen_counts_among_the_draws() -> None:
    """No p-value is 0: of 99 drawn patterns the least is 1 / 100."""
    found = of(np.linspace(0.5, 1, 60), draws=99)
    assert found.p == pytest.approx(0.01)
    assert found.mid_p == pytest.approx(0.005)


def test_rounding_makes_no_tie_an_excess() -> None:
    """0.1 + 0.2 is not 0.3 to a computer; sums that are the same on paper are the same here."""
    rng = np.random.default_rng(4)
    for _ in range(10):
        whole_P = rng.integers(-4, 6, 14)
        tenths, whole = of(whole_P * 0.1), of(whole_P)
        assert (tenths.p, tenths.mid_p) == (whole.p, whole.mid_p)
        assert whole.mid_p < whole.p


def test_equal_seeds_give_equal_values() -> None:
    values_P = np.random.default_rng(2).normal(0, 1, 50)
    assert of(values_P, seed=1) == of(values_P, seed=1)
    assert of(values_P, seed=1) != of(values_P, seed=2)


def test_nothing_that_differs_is_no_evidence() -> None:
    found = of([0.0] * 5)
    assert found.p == 1.0
    assert found.exact


def test_too_few_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="draws: 10"):
        of([1, 0], draws=10)


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [200, 500])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_without_a_difference_5_percent_find_one(scenario: Scenario, prompts: int) -> None:
    found = rejections(scenario, prompts, 2_000, seed=7 * prompts)
    assert 0.035 <= found["permutation, mid-p"] <= 0.065
    assert found["permutation"] <= 0.05 + 0.015


def test_a_difference_is_found() -> None:
    assert rejections(with_gain(SCENARIOS[3]), 200, 500, seed=5)["permutation"] > 0.9
