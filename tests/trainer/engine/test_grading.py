"""Scores of answers that are all kept: one bad answer is one failed item, and never a 0."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Literal

import pytest

from trainer.engine import patience
from trainer.engine.failure import Failure, Halt
from trainer.engine.grading import LATE_MOST, Grade, Grader
from trainer.registry import Answer, Reward, Unavailable, Unscorable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Fickle(Reward):
    """Does what the answer's text says."""

    type: Literal["fickle"] = "fickle"
    at_once: ClassVar[int] = 4
    time_limit: ClassVar[float] = 0.05

    def score(self, answer: Answer) -> float | None:
        found = {
            "raise": lambda: 1 / 0,
            "hang": lambda: time.sleep(60),
            "none": lambda: None,
            "nan": lambda: float("nan"),
            "inf": lambda: float("inf"),
            "text": lambda: "good",
            "why": lambda: (_ for _ in ()).throw(Unscorable("no reference")),
            "gone": lambda: (_ for _ in ()).throw(Unavailable("it is gone")),
            "halt": lambda: (_ for _ in ()).throw(Halt("stopped", "user", "enough")),
            "memory": lambda: (_ for _ in ()).throw(MemoryError()),
        }
        act: Callable[[], float | None] | None = found.get(answer.text)
        return float(answer.text) if act is None else act()


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(patience, "LOOK", 0.01)


def grades(*texts: str, reward: Reward | None = None) -> list[Grade]:
    answers = [Answer("p", text, 1, "stop") for text in texts]
    return Grader([reward or Fickle()], lambda: None).grades(answers)[(reward or Fickle()).label]


def test_answers_beside_a_bad_one_keep_their_scores():
    found = grades("1", "raise", "0", "hang", "0.5")
    assert [grade.value for grade in found] == [1.0, None, 0.0, None, 0.5]
    assert [grade.problem for grade in found] == [
        "",
        "raised ZeroDivisionError: division by zero",
        "",
        "took longer than 0.05 s",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("none", "the scorer could not say"),
        ("nan", "the scorer could not say"),
        ("inf", "gave inf, which cannot be compared"),
        ("text", "gave 'good', which is no number"),
        ("why", "no reference"),
    ],
)
def test_what_is_no_score_is_a_problem(text, problem):
    assert grades("1", text) == [Grade(1.0), Grade(None, problem)]


def test_a_scorer_that_gives_too_few_scores_is_asked_one_by_one():
    class Short(Fickle):
        def scores(self, answers: Sequence[Answer]) -> list[float]:
            return [2.0]

    assert grades("a", "b", reward=Short()) == [Grade(2.0), Grade(2.0)]


def test_what_ends_a_run_ends_it():
    with pytest.raises(Halt, match="enough"):
        grades("1", "halt")
    with pytest.raises(MemoryError):
        grades("memory")
    with pytest.raises(Failure, match="rewards: fickle: it is gone") as told:
        grades("gone")
    assert told.value.cause == "bad-input"


def test_a_scorer_that_hangs_on_everything_ends_the_run():
    grader = Grader([Fickle()], lambda: None)
    hang, fine = Answer("p", "hang", 1, "stop"), Answer("p", "1", 1, "stop")
    for _ in range(LATE_MOST):
        grader.grades([hang, fine] * (LATE_MOST - 2))
    with pytest.raises(Failure, match="answer in a row on which it did"):
        grader.grades([hang] * LATE_MOST)


def test_somebodys_wish_to_stop_is_heard_while_a_scorer_works():
    def stop():
        raise Halt("stopped", "user", "enough")

    slow = Fickle()
    ticks = iter([lambda: None])
    with pytest.raises(Halt, match="enough"):
        Grader([slow], lambda: next(ticks, stop)()).grades([Answer("p", "hang", 1, "stop")])


def test_the_first_error_is_shown_whole_and_the_others_are_not(capfd):
    grades("raise", "raise", "raise")
    said = "".join(capfd.readouterr())
    assert said.count("here for the first time") == 1 and said.count("Traceback") == 1
