"""Values that are no number, unusual ones, and steps that stay away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from orchestrator.selectors.attempt_points import AttemptPoints
from orchestrator.selectors.metric_signals import (
    pause_signals,
    sick_signals,
    unusual,
    unusual_signals,
)
from tests.orchestrator.failing import Story

if TYPE_CHECKING:
    from orchestrator.models import Run

chance = np.random.default_rng(5)


def noise(count: int, middle: float = 0.5, width: float = 0.05) -> list[float]:
    return list(middle + width * chance.standard_normal(count))


# --- unusual ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(50))
def test_noise_alone_is_never_unusual(seed: int) -> None:
    made = np.random.default_rng(seed)
    steady = np.abs(made.normal(0.5, 0.2, 150))
    heavy = made.lognormal(-1.0, 0.8, 150)
    assert unusual(steady, times=True) is None
    assert unusual(steady, times=False) is None
    assert unusual(np.abs(heavy), times=True) is None or heavy.max() > 8 * np.median(heavy)


def test_a_leap_at_the_end_is_told_with_the_median_before_it() -> None:
    values = np.array([*noise(140), 9.0, 12.0, np.nan])
    found = unusual(values, times=True)
    assert found is not None
    assert found[0] == 140 and found[1] == pytest.approx(0.5, abs=0.05)


def test_what_rises_slowly_is_not_unusual() -> None:
    assert unusual(np.linspace(0.5, 5.0, 150), times=True) is None


@pytest.mark.parametrize("rest", [19, 20])
def test_a_leap_that_passed_does_not_count(rest: int) -> None:
    values = np.array([*noise(120), 9.0, *noise(rest)])
    assert (unusual(values, times=True) is None) == (rest >= 20)


def test_two_leaps_that_follow_each_other_closely_are_one_story() -> None:
    values = np.array([*noise(110), 9.0, *noise(10), 9.0, *noise(5)])
    found = unusual(values, times=True)
    assert found is not None and found[0] == 110


def test_a_leap_long_ago_does_not_count() -> None:
    assert unusual(np.array([*noise(90), 9.0, *noise(59)]), times=True) is None


def test_nothing_is_told_from_few_values_or_from_equal_ones() -> None:
    assert unusual(np.array([*noise(19), 9.0]), times=True) is None
    assert unusual(np.array([*noise(20), 9.0]), times=True) is not None
    assert unusual(np.array([0.5] * 100 + [9.0]), times=True) is None


def test_a_loss_must_rise_by_half_and_a_gradient_to_three_times() -> None:
    tight = [*noise(140, 2.0, 0.001)]
    assert unusual(np.array([*tight, 2.9]), times=False) is None
    assert unusual(np.array([*tight, 3.1]), times=False) is not None
    assert unusual(np.array([*tight, 5.9]), times=True) is None
    assert unusual(np.array([*tight, 6.1]), times=True) is not None


# --- with rows --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_spike_names_its_step_and_does_not_overclaim(run: Run) -> None:
    Story(run).begin().steps(1, 120).steps(121, 121, grad_norm=40.0)
    [found] = unusual_signals(AttemptPoints(run, 1))
    assert (found.step, found.metric, found.code) == (121, "grad_norm", "unusual")
    assert "It need not be the cause" in found.text and "40 at step 121" in found.text


@pytest.mark.django_db
def test_loss_and_gradient_count_whenever_and_others_when_they_stay_away(run: Run) -> None:
    story = Story(run).begin().steps(1, 10, kl=0.1, entropy=1.0, odd=1.0)
    story.steps(11, 11, loss="NaN", odd="NaN").steps(12, 50, kl=0.1, entropy=1.0, odd=1.0)
    story.steps(51, 51, kl="Infinity", entropy="NaN").wait(2000)
    story.steps(52, 60, kl="NaN", entropy=1.0)
    found = {one.metric: one for one in sick_signals(AttemptPoints(run, 1), story.now - 900)}
    assert found["loss"].step == 11, "of loss it counts whenever it came"
    assert found["kl"].step == 51 and found["kl"].code == "infinite", "never a number again"
    assert set(found) == {"loss", "kl"}, "entropy and odd were numbers again, long ago"
    late = {one.metric: one for one in sick_signals(AttemptPoints(run, 1), 0.0)}
    assert late["entropy"].title == "entropy and kl were no number"


@pytest.mark.django_db
def test_a_metric_that_never_was_a_number_says_nothing(run: Run) -> None:
    Story(run).begin().steps(1, 30, judge="NaN")
    assert sick_signals(AttemptPoints(run, 1), 0.0) == []


@pytest.mark.django_db
def test_many_metrics_at_one_step_are_one_signal_that_begins_with_the_loss(run: Run) -> None:
    fine = {f"m{n}": 1.0 for n in range(8)}
    story = Story(run).begin().steps(1, 5, **fine)
    story.steps(6, 6, loss="NaN", grad_norm="NaN", **dict.fromkeys(fine, "NaN"))
    [found] = sick_signals(AttemptPoints(run, 1), 0.0)
    assert found.metric == "loss"
    assert found.title == "loss, grad_norm, m0 and 7 more were no number"


@pytest.mark.django_db
def test_a_pause_is_told_unless_other_work_explains_it(run: Run) -> None:
    story = Story(run).begin().steps(1, 60).wait(90).steps(61, 90)
    story.tell({"type": "status", "state": "running", "phase": "eval", "step": 90}).wait(90)
    story.steps(91, 100)
    points = AttemptPoints(run, 1)
    [found] = pause_signals(run, 1, points, story.now + 10)
    assert found.step == 60 and "After step 60 none was logged for 2 min" in found.text
    [_, last] = pause_signals(run, 1, points, story.now + 200)
    assert last.step == 100


@pytest.mark.django_db
def test_a_slow_run_pauses_by_its_own_measure(run: Run) -> None:
    story = Story(run, pace=60.0, ago=9000).begin().steps(1, 30).wait(300).steps(31, 60)
    assert pause_signals(run, 1, AttemptPoints(run, 1), story.now + 300) == []
