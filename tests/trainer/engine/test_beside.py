"""Lines of other processes beside the trainer's: cut to its steps, in time, never guessed."""

from __future__ import annotations

import pytest

from trainer.engine.beside import STEPS_MOST, Beside, News, Step


class Said:
    def __init__(self):
        self.lines = []

    def spans(self, step, process, spans, *, folded=0, stands_for=None):
        if spans:
            self.lines.append((step, process, list(spans), stands_for))


@pytest.fixture
def said():
    return Said()


def test_a_step_is_told_when_all_of_it_is_known_and_cut_to_it(said):
    beside = Beside(said)
    beside.heard(News("generator", [("wait", 0.0, 4.0)]))
    beside.step(Step(1, 3.0, 6.0, 2))
    beside.tell()
    assert said.lines == []
    beside.heard(News("generator", [("rollout", 4.0, 5.0)]))
    beside.tell()
    assert said.lines == []
    beside.heard(News("generator", [("rollout", 5.0, 9.0)]))
    beside.tell()
    assert said.lines == [(1, "generator", [("wait", 3.0, 4.0), ("rollout", 4.0, 6.0)], 2)]
    # What reaches into the next step is told there.
    beside.step(Step(2, 6.0, 8.5, 1))
    beside.tell()
    assert said.lines[1:] == [(2, "generator", [("rollout", 6.0, 8.5)], 1)]


def test_each_process_is_told_of_in_its_own_time(said):
    beside = Beside(said)
    for name in ("rank 1", "rank 2"):
        beside.heard(News(name, []))
    beside.step(Step(1, 0.0, 2.0, 1))
    beside.step(Step(2, 2.0, 3.0, 1))
    beside.heard(News("rank 2", [("update", 0.0, 2.5)]))
    beside.tell()
    beside.heard(News("rank 1", [("update", 0.0, 3.5)]))
    beside.tell()
    assert [(step, name) for step, name, _, _ in said.lines] == [
        (1, "rank 2"),
        (1, "rank 1"),
        (2, "rank 1"),
    ]


def test_at_the_end_a_step_that_is_nearly_known_is_told_and_one_that_is_half_known_is_not(said):
    beside = Beside(said)
    beside.heard(News("near", [("rollout", 0.0, 9.5)]))
    beside.heard(News("half", [("rollout", 0.0, 5.0)]))
    beside.step(Step(7, 0.0, 10.0, 1))
    beside.tell()
    assert said.lines == []
    beside.tell(last=True)
    assert said.lines == [(7, "near", [("rollout", 0.0, 9.5)], 1)]


def test_a_process_that_was_not_there_has_no_line(said):
    beside = Beside(said)
    beside.step(Step(1, 0.0, 1.0, 1))
    beside.heard(News("late", [("rollout", 1.0, 3.0)]))
    beside.step(Step(2, 1.0, 2.0, 1))
    beside.tell()
    assert [step for step, *_ in said.lines] == [2]


def test_steps_do_not_pile_up_for_one_that_tells_nothing(said):
    beside = Beside(said)
    beside.heard(News("silent", []))
    for step in range(1, STEPS_MOST + 11):
        beside.step(Step(step, step, step + 1, 1))
    beside.heard(News("silent", [("wait", 0.0, 1e6)]))
    beside.tell()
    assert [step for step, *_ in said.lines] == list(range(11, STEPS_MOST + 11))
