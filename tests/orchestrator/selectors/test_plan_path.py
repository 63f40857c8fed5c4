"""What lines add up to: medians that weigh, shares that sum to one, a path that goes on where somebody waits."""

from __future__ import annotations

import pytest

from orchestrator.selectors.plan_lines import Span, StepLine
from orchestrator.selectors.plan_path import (
    bottleneck_of,
    median,
    path_shares,
    phase_order,
    phase_times,
    processes_of,
    step_seconds,
)


def line(
    step: int, *parts: tuple[str, float], process: str = "trainer", steps: int = 1, start: float = 0
) -> StepLine:
    found, at = [], 0.0
    for phase, seconds in parts:
        found.append(Span(phase, at, at + seconds))
        at += seconds
    return StepLine(1, process, step, steps, start, tuple(found))


def test_a_phase_is_measured_where_it_occurs_and_shared_over_all() -> None:
    lines = [
        line(1, ("eval", 4.0), ("update", 1.0)),
        line(2, ("update", 2.0)),
        line(3, ("update", 3.0)),
    ]
    update, evaluation = phase_times(lines)
    assert (update.phase, update.p50, update.mean, update.steps) == ("update", 2.0, 2.0, 3)
    assert (evaluation.p50, evaluation.steps) == (4.0, 1)
    assert evaluation.mean == pytest.approx(4 / 3)
    assert update.share + evaluation.share == pytest.approx(1)
    assert step_seconds(lines) == 3.0


def test_a_line_counts_for_the_steps_that_it_stands_for() -> None:
    lines = [
        line(1, ("checkpoint", 1.0), ("update", 0.1)),
        line(10, ("update", 0.1), steps=9),
    ]
    update, checkpoint = phase_times(lines)
    assert update.steps == 10 and update.share == pytest.approx(0.5)
    assert checkpoint.share == pytest.approx(0.5)
    assert step_seconds(lines) == pytest.approx(0.1)
    assert path_shares(lines) == pytest.approx({"update": 0.5, "checkpoint": 0.5})


def test_what_came_behind_the_last_step_counts_for_none() -> None:
    lines = [line(1, ("update", 1.0)), line(1, ("checkpoint", 50.0), steps=0)]
    assert [time.phase for time in phase_times(lines)] == ["update"]
    assert path_shares(lines) == {"update": 1.0}
    assert path_shares(lines[1:]) == {} and phase_times(lines[1:]) == []
    assert step_seconds(lines[1:]) is None


@pytest.mark.parametrize(
    ("pairs", "middle"),
    [
        ([(3.0, 1)], 3.0),
        ([(1.0, 1), (2.0, 1)], 1.5),
        ([(5.0, 1), (1.0, 1), (2.0, 1)], 2.0),
        ([(1.0, 10), (9.0, 1)], 1.0),
        ([(9.0, 3), (1.0, 1), (2.0, 2)], 5.5),
    ],
)
def test_the_median_weighs(pairs: list[tuple[float, int]], middle: float) -> None:
    assert median(pairs) == middle


def test_while_the_trainer_waits_the_path_is_what_it_waits_for() -> None:
    lines = [
        line(1, ("wait", 6.0), ("update", 2.0), start=100.0),
        line(1, ("rollout", 4.0), ("reward", 1.0), process="generator 0", start=100.0),
    ]
    # A second of the wait was for nothing that is known.
    assert path_shares(lines) == pytest.approx(
        {"rollout": 0.5, "reward": 0.125, "wait": 0.125, "update": 0.25}
    )


def test_of_two_that_are_waited_for_it_is_the_longer_one() -> None:
    lines = [
        line(1, ("wait", 4.0), start=0.0),
        line(1, ("reward", 2.0), process="generator 0", start=0.0),
        line(1, ("rollout", 4.0), process="generator 1", start=0.0),
    ]
    assert path_shares(lines) == {"rollout": 1.0}


def test_waits_of_others_and_what_ended_before_are_no_part_of_it() -> None:
    lines = [
        line(1, ("update", 10.0), ("wait", 2.0), start=0.0),
        line(1, ("rollout", 9.0), ("wait", 5.0), process="generator 0", start=0.0),
    ]
    assert path_shares(lines) == pytest.approx({"update": 10 / 12, "wait": 2 / 12})


def test_a_long_span_that_began_early_is_found() -> None:
    short = [line(n, ("sync", 0.1), process="g", start=float(n)) for n in range(50)]
    long = line(1, ("rollout", 100.0), process="h", start=0.0)
    waiting = line(1, ("wait", 1.0), start=70.0)
    assert path_shares([waiting, *short, long]) == {"rollout": 1.0}


def test_the_trainer_leads_and_without_one_the_first_by_name() -> None:
    lines = [line(1, ("update", 1.0), process=name) for name in ("rank 1", "trainer", "rank 0")]
    assert processes_of(lines) == ["trainer", "rank 0", "rank 1"]
    assert processes_of(lines[::2]) == ["rank 0", "rank 1"] and processes_of([]) == []


def test_phases_stand_in_order_and_unknown_ones_before_waiting() -> None:
    names = ["other", "wait", "update", "compile", "data"]
    assert sorted(names, key=phase_order) == ["data", "update", "compile", "wait", "other"]


def test_the_bottleneck_is_the_largest_that_has_a_name() -> None:
    assert bottleneck_of({"other": 0.6, "update": 0.3, "rollout": 0.1}) == "update"
    assert bottleneck_of({"wait": 0.6, "update": 0.4}) == "wait"
    assert bottleneck_of({"other": 1.0}) is None and bottleneck_of({}) is None
