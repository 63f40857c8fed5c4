"""Spans of a step: whole, few enough, and true when they are added up."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from trainer import spans
from trainer.spans import LABEL_LENGTH, LINE_SPANS_MOST, SPANS_MOST, Lap, SpanLines


def lap_of(*seconds: float, phases: tuple[str, ...] = ("update", "logprob")) -> Lap:
    lap, at = Lap(), 100.0
    for place, length in enumerate(seconds):
        lap.add(phases[place % len(phases)], at, at + length)
        at += length
    return lap


def test_few_spans_are_kept_as_they_were():
    lap = lap_of(1.0, 2.0, 3.0)
    assert lap.spans() == [
        ("update", 100.0, 101.0),
        ("logprob", 101.0, 103.0),
        ("update", 103.0, 106.0),
    ]
    assert lap.folded == 0


def test_a_phase_of_no_time_leaves_no_span():
    assert lap_of(0.0, 1.0).spans() == [("logprob", 100.0, 101.0)]


def test_a_phase_that_goes_on_is_one_span():
    assert lap_of(1.0, 2.0, 4.0, phases=("update",)).spans() == [("update", 100.0, 107.0)]
    lap = lap_of(1.0)
    lap.add("update", 102.0, 103.0)
    assert len(lap.spans()) == 2, "there was a hole"


def test_a_line_beside_another_is_written_and_stands_for_as_many_steps():
    lines, spans = SpanLines(), [("rollout", 1.0, 2.0)]
    for stands_for in (3, 1, 0):
        line = lines.line(7, "generator", spans, stands_for=stands_for)
        assert line is not None and line["steps"] == stands_for


def test_too_many_spans_are_added_up_and_none_is_lost():
    seconds = [0.5 + place % 7 for place in range(2001)]
    lap = lap_of(*seconds)
    found = lap.spans()
    assert len(found) == SPANS_MOST + 2 and lap.folded == 2001 - SPANS_MOST
    for phase, own in (("update", seconds[::2]), ("logprob", seconds[1::2])):
        assert sum(end - start for name, start, end in found if name == phase) == pytest.approx(
            sum(own)
        )
    assert all(one[2] == pytest.approx(other[1]) for one, other in pairwise(found))
    assert found[-1][2] == pytest.approx(100 + sum(seconds))


def test_a_line_holds_seconds_since_its_start_by_the_clock_of_the_machine():
    now = time.perf_counter()
    line = SpanLines().line(
        7, "trainer", [("rollout", now, now + 0.5), ("update", now + 0.5, now + 2)]
    )
    assert line is not None
    assert line["spans"] == [["rollout", 0.0, 0.5], ["update", 0.5, 2.0]]
    assert abs(line["start"] - time.time()) < 5
    assert (line["step"], line["process"], line["steps"]) == (7, "trainer", 1)
    assert "folded" not in line


def test_lines_of_two_processes_count_from_one_anchor():
    lines, now = SpanLines(), time.perf_counter()
    one = lines.line(1, "trainer", [("update", now, now + 1)])
    other = lines.line(1, "generator 0", [("rollout", now + 0.25, now + 1)])
    assert one is not None and other is not None
    assert other["start"] - one["start"] == pytest.approx(0.25, abs=2e-6)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is moved."""

    class Clock:
        now = 50.0

        def perf_counter(self) -> float:
            return self.now

        def time(self) -> float:
            return 1e9 + self.now

    found = Clock()
    monkeypatch.setattr(spans, "time", found)
    return found


def test_quick_steps_are_left_out_and_counted_by_the_next_line(clock):
    lines, found = SpanLines(), []
    for step in range(1, 101):
        clock.now += 0.1
        found.append(lines.line(step, "trainer", [("update", clock.now - 0.1, clock.now)]))
    written = [line for line in found if line]
    assert len(written) == 34
    assert [line["steps"] for line in written] == [1] + [3] * 33
    assert sum(line["steps"] for line in written) == written[-1]["step"]


def test_each_step_that_is_slow_enough_is_written(clock):
    lines = SpanLines()
    for step in range(1, 20):
        clock.now += 0.3
        line = lines.line(step, "trainer", [("update", clock.now - 0.3, clock.now)])
        assert line is not None and line["steps"] == 1


def test_a_step_with_a_seldom_phase_is_always_written_and_stands_for_itself(clock):
    lines = SpanLines()
    span = [("update", 0.0, 0.1)]
    assert lines.line(1, "trainer", span)
    assert lines.line(2, "trainer", span) is None
    line = lines.line(3, "trainer", [("checkpoint", 0.0, 0.1), *span])
    assert line is not None and line["steps"] == 1
    clock.now += 1
    line = lines.line(4, "trainer", span)
    assert line is not None and line["steps"] == 2, "step 2 is not forgotten"


def test_each_process_has_its_own_pace(clock):
    lines = SpanLines()
    assert lines.line(1, "trainer", [("update", 0.0, 0.1)])
    assert lines.line(1, "rank 1", [("update", 0.0, 0.1)])
    assert lines.line(2, "trainer", [("update", 0.1, 0.2)]) is None


def test_what_came_behind_the_last_step_is_written_and_stands_for_none(clock):
    lines = SpanLines()
    assert lines.line(9, "trainer", [("update", 0.0, 0.1)])
    line = lines.line(9, "trainer", [("other", 0.1, 0.2)], counts=False)
    assert line is not None and line["steps"] == 0


def test_no_spans_make_no_line():
    assert SpanLines().line(1, "trainer", []) is None


def test_a_server_takes_every_line_that_a_lap_can_make():
    assert LINE_SPANS_MOST >= 2 * SPANS_MOST and len("generator 1000") <= LABEL_LENGTH
