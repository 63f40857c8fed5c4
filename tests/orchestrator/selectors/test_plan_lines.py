"""Which lines of a plan stand: those of the attempt that went through a step last, the newest of each process."""

from __future__ import annotations

from orchestrator.selectors.plan_lines import KEPT, Span, StepLine, newest_steps, standing, steps_of


def line(attempt: int, step: int, process: str = "trainer", steps: int = 1) -> StepLine:
    return StepLine(attempt, process, step, steps, 10.0 * step, (Span("update", 0.0, 1.0),))


def kept(lines: list[StepLine]) -> list[tuple[int, int]]:
    """(attempt, step) of lines that are given oldest first."""
    return [(one.attempt, one.step) for one in reversed(standing(reversed(lines)))]


def test_a_later_attempt_supersedes_what_it_did_again() -> None:
    lines = [line(1, step) for step in range(1, 7)] + [line(2, step) for step in (4, 5)]
    assert kept(lines) == [(1, 1), (1, 2), (1, 3), (1, 6), (2, 4), (2, 5)]


def test_also_the_steps_of_which_it_wrote_no_line() -> None:
    lines = [line(1, step) for step in range(1, 10)] + [line(2, 4), line(2, 8)]
    assert kept(lines) == [(1, 1), (1, 2), (1, 3), (1, 9), (2, 4), (2, 8)]


def test_one_process_says_nothing_of_another() -> None:
    lines = [line(1, 1), line(1, 1, "rank 1"), line(2, 1)]
    assert kept(lines) == [(1, 1), (2, 1)]
    assert [one.process for one in standing(reversed(lines))] == ["trainer", "rank 1"]


def test_each_process_keeps_its_newest() -> None:
    lines = [line(1, step) for step in range(KEPT + 50)] + [line(1, 1, "rank 1")]
    found = standing(reversed(lines))
    assert len(found) == KEPT + 1
    assert min(one.step for one in found if one.process == "trainer") == 50


def test_the_end_stands_beside_the_last_step() -> None:
    assert kept([line(1, 5), line(1, 5, steps=0)]) == [(1, 5), (1, 5)]


def test_steps_are_counted_as_they_were_recorded() -> None:
    lines = [line(1, step) for step in (3, 9, 12, 40)] + [line(1, 40, "rank 1")]
    assert newest_steps(lines, 2) == (12, 40) and newest_steps([], 2) is None
    assert [one.step for one in steps_of(lines, 9, 12)] == [9, 12]


def test_seconds_are_those_of_its_spans() -> None:
    spans = (Span("update", 0.0, 1.0), Span("reward", 1.0, 1.5), Span("update", 1.5, 3.0))
    one = StepLine(1, "trainer", 1, 1, 0.0, spans)
    assert one.seconds == 3.0 and one.spent() == {"update": 2.5, "reward": 0.5}
