"""Intervals over prompts: near the t interval where that is right, wider and honest where few prompts differ."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from orchestrator.evidence.intervals import Interval, bootstrap_t, draws, level_check, mean_interval
from tests.orchestrator.evidence.simulated import (
    CLOSE,
    SCENARIOS,
    Scenario,
    close_coverage,
    coverage,
    with_gain,
)


def of(values: object, level: float = 0.95, seed: int = 0) -> Interval:
    return mean_interval(
        np.asarray(values, dtype=float), bounds=(-1.0, 1.0), level=level, resamples=5_000, seed=seed
    )


def test_of_many_even_values_it_is_the_t_interval() -> None:
    values_P = np.random.default_rng(1).normal(0.1, 0.2, 400)
    low, high = stats.t.interval(0.95, 399, values_P.mean(), stats.sem(values_P))
    found = of(values_P)
    assert found.method == "bootstrap-t over prompts"
    assert found.low == pytest.approx(low, abs=0.001)
    assert found.high == pytest.approx(high, abs=0.001)


def test_a_higher_level_is_wider_and_equal_seeds_give_equal_intervals() -> None:
    values_P = np.random.default_rng(1).normal(0.1, 0.2, 60)
    assert of(values_P) == of(values_P)
    assert of(values_P) != of(values_P, seed=1)
    assert (
        of(values_P, level=0.99).low
        < of(values_P).low
        < of(values_P).high
        < of(values_P, level=0.99).high
    )


def test_many_columns_give_what_each_gives_alone() -> None:
    values_PC = np.random.default_rng(2).normal(0, 1, (80, 5))
    low_C, high_C = bootstrap_t(values_PC, level=0.9, resamples=500, seed=3)
    for at in range(5):
        low, high = bootstrap_t(values_PC[:, at : at + 1], level=0.9, resamples=500, seed=3)
        assert low_C[at] == pytest.approx(low[0], rel=1e-12)
        assert high_C[at] == pytest.approx(high[0], rel=1e-12)


def test_batches_of_draws_count_whole_prompts() -> None:
    batches = list(draws(3_000_000, 3, seed=0))
    assert [batch.shape for batch in batches] == [(1, 3_000_000)] * 3
    assert all(batch.sum() == 3_000_000 for batch in batches)


@pytest.mark.parametrize("differing", [0, 1, 4])
def test_it_is_never_sure_because_few_prompts_differ(differing: int) -> None:
    """A percentile bootstrap of 100 equal differences would be the point 0 to 0."""
    found = of([1.0] * differing + [0.0] * (100 - differing))
    assert found.method == "betting (few prompts differ)"
    assert found.low < -0.03
    assert found.high > differing / 100 + 0.03
    # That much may differ unseen with a chance of 2.5 %: the interval must reach as far.
    unseen = 1 - 0.025 ** (1 / 100)
    assert found.high >= unseen


def test_everything_solved_is_not_everything_for_sure() -> None:
    found = mean_interval(np.ones(50), bounds=(0.0, 1.0), level=0.95, resamples=500, seed=0)
    assert found.high == 1.0
    assert 0.8 < found.low < 0.95


def test_it_stays_inside_what_there_can_be() -> None:
    found = mean_interval(
        np.array([0.0] * 5 + [1.0] * 3), bounds=(0.0, 1.0), level=0.99, resamples=500, seed=0
    )
    assert 0.0 <= found.low < found.high <= 1.0


def test_within_a_margin_means_both_ends() -> None:
    assert Interval(-0.01, 0.02, 0.95, "").within(0.03)
    assert not Interval(-0.01, 0.03, 0.95, "").within(0.03)
    assert not Interval(-0.04, 0.02, 0.95, "").within(0.03)
    assert Interval(-0.01, 0.02, 0.95, "").holds(0.02)


@pytest.mark.parametrize(
    ("level", "resamples", "words"), [(95, 1000, "level: 95"), (0.95, 10, "too few")]
)
def test_bad_input_is_told_in_words(level: float, resamples: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        level_check(level, resamples)


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [50, 100, 200, 500])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_95_percent_intervals_hold_the_truth_in_93_to_97_percent(
    scenario: Scenario, prompts: int
) -> None:
    for at, truth in enumerate((scenario, with_gain(scenario))):
        # Above, 0.5 points of grace: 2,000 comparisons know their share no better, and too wide misleads nobody.
        assert 0.93 <= coverage(truth, prompts, 2_000, seed=10 * prompts + at) <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [50, 100, 200, 500])
@pytest.mark.parametrize("scenario", CLOSE, ids=lambda scenario: scenario.name)
def test_where_few_prompts_differ_intervals_are_wide_and_never_short(
    scenario: Scenario, prompts: int
) -> None:
    # 300 comparisons know their share to 1.5 points.
    assert close_coverage(scenario, prompts, 300, seed=prompts) >= 0.92


def test_drawing_samples_apart_would_be_far_too_sure() -> None:
    """What clustering is for: 16 answers to one prompt are not 16 prompts."""
    scenario = SCENARIOS[-1]
    rng = np.random.default_rng(0)
    candidate_PC, baseline_PC = scenario.scores(100, 500, rng)
    shared_PC = rng.normal(0, 0.3, (100, 500))
    difference_PC = candidate_PC - baseline_PC + shared_PC
    low_C, high_C = bootstrap_t(difference_PC, level=0.95, resamples=500, seed=1)
    held = ((low_C <= 0) & (high_C >= 0)).mean()
    as_if_C = difference_PC.std(axis=0) / np.sqrt(100 * 16)
    as_if = (np.abs(difference_PC.mean(axis=0)) <= 1.96 * as_if_C).mean()
    assert held > 0.93
    assert as_if < 0.5
