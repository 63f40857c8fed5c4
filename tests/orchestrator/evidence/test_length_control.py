"""The length-controlled win rate takes length out, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import special

from orchestrator.evidence import length_controlled
from tests.orchestrator.evidence.simulated import judged, length_cover


def test_it_equals_the_published_regression_by_statsmodels() -> None:
    wins, one, other = judged(400, skill=0.4, taste=1.0)
    found = length_controlled(wins, one, other, resamples=200)
    longer = one - other
    x = np.column_stack([np.ones(400), np.tanh(longer / longer.std(ddof=1))])
    reference = sm.GLM(wins, x, sm.families.Binomial()).fit(tol=1e-12).params
    assert found.length_weight == pytest.approx(reference[1], abs=1e-6)
    assert found.length_controlled == pytest.approx(special.expit(reference[0]), abs=1e-6)
    assert found.win_rate == pytest.approx(wins.mean())


def test_difficulty_of_the_instruction_is_the_third_term() -> None:
    wins, one, other = judged(400, skill=0.4, taste=1.0)
    difficulty = np.random.default_rng(9).normal(0, 1, 400)
    found = length_controlled(wins, one, other, difficulty=difficulty, resamples=200)
    longer = one - other
    x = np.column_stack([np.ones(400), difficulty, np.tanh(longer / longer.std(ddof=1))])
    reference = sm.GLM(wins, x, sm.families.Binomial()).fit(tol=1e-12).params
    equal = special.expit(reference[0] + reference[1] * difficulty).mean()
    assert found.length_controlled == pytest.approx(equal, abs=1e-6)


def test_a_candidate_that_is_only_longer_is_no_better() -> None:
    wins, one, other = judged(3_000, skill=0.0, taste=1.5, longer=150)
    found = length_controlled(wins, one, other, resamples=300)
    assert found.win_interval.low > 0.55
    assert found.length_controlled_interval.holds(0.5)
    assert found.length_weight > 1


def test_swapping_sides_gives_the_rest_to_one() -> None:
    wins, one, other = judged(300, skill=0.5, taste=1.0)
    there = length_controlled(wins, one, other, resamples=200)
    back = length_controlled(1 - wins, other, one, resamples=200)
    assert back.length_controlled == pytest.approx(1 - there.length_controlled, abs=1e-6)
    assert back.win_interval.low == pytest.approx(1 - there.win_interval.high, abs=1e-9)


def test_equal_lengths_leave_the_win_rate_as_it_is() -> None:
    wins, *_ = judged(200, skill=0.3, taste=0.0)
    found = length_controlled(wins, np.full(200, 90), np.full(200, 80), resamples=200)
    assert found.length_weight == 0.0
    assert found.length_controlled == pytest.approx(found.win_rate, abs=1e-6)


def test_copies_of_a_prompts_outcomes_are_no_more_evidence() -> None:
    wins, one, other = judged(100, skill=0.3, taste=0.5)
    names = [f"p{at}" for at in range(100)]
    single = length_controlled(wins, one, other, prompts=names, resamples=300)
    copied = length_controlled(
        *(np.tile(a, 5) for a in (wins, one, other)), prompts=names * 5, resamples=300
    )
    ends = [each.length_controlled_interval for each in (single, copied)]
    width, again = (each.high - each.low for each in ends)
    assert copied.prompts == 100
    assert copied.outcomes == 500
    assert again == pytest.approx(width, rel=0.02)


def test_nothing_but_wins_is_no_certainty() -> None:
    found = length_controlled(np.ones(50), np.arange(50), np.zeros(50), resamples=200)
    assert found.length_controlled_interval.low < 0.95
    assert found.length_controlled_interval == found.win_interval


def test_outcomes_that_failed_are_left_out() -> None:
    wins, one, other = judged(60, skill=0.3, taste=0.5)
    gone = length_controlled(
        np.append(wins, np.nan), np.append(one, 5), np.append(other, 5), resamples=200
    )
    assert gone == length_controlled(wins, one, other, resamples=200)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (([1] * 5, [1] * 5, [1] * 5), "too few"),
        (([2] * 20, [1] * 20, [1] * 20), "give 1 for a win"),
        (([1] * 20, [1] * 19, [1] * 20), "candidate_lengths: give one for each"),
        (([1] * 20, [1] * 20, [-1] * 20), "baseline_lengths: a length is negative"),
        (([1] * 20, [np.inf] * 20, [1] * 20), "candidate_lengths: a number is missing"),
    ],
)
def test_bad_input_is_told_in_words(given: tuple[list[float], ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        length_controlled(*given)


@pytest.mark.slow
def test_intervals_hold_the_truth() -> None:
    # 500 comparisons know their share to 1 point.
    assert 0.92 <= length_cover(200, 500, seed=0) <= 0.98
