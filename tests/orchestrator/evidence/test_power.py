"""Power and prompts needed: statsmodels' values, and what simulated comparisons really find."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from orchestrator.evidence import Arm, Arms, Pair, minimal_difference, power, prompts_needed
from orchestrator.evidence.power import chance, default_margin, spread
from tests.orchestrator.evidence.simulated import SCENARIOS, rejections, with_gain

REFERENCE = TTestPower()


def pair(candidate: object, baseline: object) -> Pair:
    one, other = Arm("a", np.asarray(candidate, float)), Arm("b", np.asarray(baseline, float))
    names = tuple(f"p{at}" for at in range(one.scores.shape[1]))
    return Arms(names, (one, other)).pair("a", "b")


@pytest.mark.parametrize("dz", [0.05, 0.2, 0.9])
@pytest.mark.parametrize("prompts", [3, 30, 1319])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 6])
def test_power_equals_statsmodels(dz: float, prompts: int, alpha: float) -> None:
    found = chance(difference=dz, error=1 / np.sqrt(prompts), freedom=prompts - 1, alpha=alpha)
    assert found == pytest.approx(REFERENCE.power(dz, prompts, alpha), abs=1e-9)


@pytest.mark.parametrize(("sd", "difference"), [(1, 0.2), (0.5, 0.05), (0.6, -0.3), (1, 2.0)])
@pytest.mark.parametrize("target", [0.8, 0.95])
def test_prompts_needed_equal_statsmodels(sd: float, difference: float, target: float) -> None:
    found = prompts_needed(sd=sd, difference=difference, power=target)
    expected = REFERENCE.solve_power(effect_size=abs(difference) / sd, alpha=0.05, power=target)
    assert found == int(np.ceil(float(np.squeeze(expected)) - 1e-9))


def test_it_is_the_fewest_that_do() -> None:
    found = prompts_needed(sd=0.5, difference=0.05)
    assert found is not None
    reached = [
        chance(difference=0.05, error=0.5 / np.sqrt(n), freedom=n - 1) for n in (found - 1, found)
    ]
    assert reached[0] < 0.8 <= reached[1]


def test_the_smallest_difference_is_the_other_side_of_prompts_needed() -> None:
    found = minimal_difference(sd=0.5, prompts=200)
    assert chance(difference=found, error=0.5 / np.sqrt(200), freedom=199) == pytest.approx(0.8)
    assert prompts_needed(sd=0.5, difference=found * (1 + 1e-9)) == 200
    assert minimal_difference(sd=0.0, prompts=5) == 0.0


def test_a_pair_says_what_is_missing() -> None:
    rng = np.random.default_rng(0)
    found = power(pair(rng.integers(0, 2, 100), rng.integers(0, 2, 100)))
    sd = spread(pair(rng.integers(0, 2, 100), rng.integers(0, 2, 100)))
    assert found.margin == 0.05
    assert found.needed is not None
    assert found.more == found.needed - 100
    assert 100 < found.needed < 3_000
    assert found.at_margin < 0.8 < found.detectable / 0.05
    assert 0.5 < sd < 0.9


def test_enough_prompts_miss_none() -> None:
    rng = np.random.default_rng(0)
    hard_P = rng.random(500)
    found = power(pair(hard_P, (hard_P + rng.normal(0, 0.01, 500)).clip(0, 1)))
    assert found.more == 0
    assert found.at_margin > 0.999
    assert found.detectable < 0.01


def test_several_comparisons_need_more_prompts() -> None:
    rng = np.random.default_rng(1)
    several = pair(rng.integers(0, 2, 100), rng.integers(0, 2, 100))
    one, six = power(several), power(several, comparisons=6)
    assert six.alpha == pytest.approx(0.05 / 6)
    assert (six.needed or 0) > 1.3 * (one.needed or 0)


def test_prompts_that_all_agree_promise_no_certainty() -> None:
    """No difference on 20 prompts: up to 14 % of all prompts may differ, by as much as 1."""
    found = pair([1] * 20, [1] * 20)
    assert spread(found) == pytest.approx(np.sqrt(1 - 0.05 ** (1 / 20)))
    reach = power(found)
    assert reach.at_margin < 0.2
    assert (reach.more or 0) > 100
    assert reach.needed_for_observed is None


def test_other_scales_have_a_margin_in_their_own_spread() -> None:
    rng = np.random.default_rng(2)
    wide = pair(rng.normal(0, 30, 100), rng.normal(0, 30, 100))
    assert default_margin(wide) == pytest.approx(0.2 * wide.difference_P.std(ddof=1))
    assert power(wide, margin=4.0).margin == 4.0


def test_seeds_that_differ_too_much_cannot_be_made_good_by_prompts() -> None:
    rng = np.random.default_rng(3)
    noise = rng.random((3, 400, 1)) * 0.2
    far_S = np.array([0.0, 0.3, 0.6])[:, None, None]
    found = power(pair(noise + far_S, noise[::-1] + far_S))
    assert found.needed is None
    assert found.more is None
    near = power(pair(noise + 0.1, rng.random((3, 400, 1)) * 0.2))
    assert near.needed is not None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: prompts_needed(sd=1, difference=0), "difference that is not 0"),
        (lambda: prompts_needed(sd=1, difference=0.1, power=0.01), "0 < alpha < power < 1"),
        (lambda: minimal_difference(sd=1, prompts=1), "prompts: 1"),
        (lambda: power(pair([0, 1, 1], [1, 0, 0]), margin=0.0), "margin: 0.0"),
        (lambda: power(pair([0, 1, 1], [1, 0, 0]), comparisons=0), "comparisons: 0"),
        (lambda: power(pair([0], [1])), "a single prompt"),
    ],
)
def test_bad_input_is_told_in_words(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]
    assert prompts_needed(sd=1, difference=1e-6) is None


@pytest.mark.slow
def test_as_many_prompts_as_it_says_find_the_difference_that_often() -> None:
    scenario = with_gain(SCENARIOS[3], 0.12)
    rng = np.random.default_rng(4)
    candidate_PC, baseline_PC = scenario.scores(4_000, 1, rng)
    sd = float((candidate_PC - baseline_PC).std())
    prompts = prompts_needed(sd=sd, difference=scenario.truth)
    assert prompts is not None
    assert rejections(scenario, prompts, 2_000, seed=5)["permutation, mid-p"] == pytest.approx(
        0.8, abs=0.03
    )
