"""Scores of answers that are all kept: what a scorer cannot do with one of them is that one's problem.

Training ends on a reward that raises or hangs (`scoring`), for it would learn from what is left. An
evaluation has nothing to spoil: the answer is a failed item, with the reason and without a value, never a 0.
"""

from __future__ import annotations

import math
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.engine.failure import Failure, Halt, verdict_of
from trainer.engine.patience import Patience, TimedOut
from trainer.methods import Unavailable, Unscorable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.methods import Answer, Reward

LATE_MOST = 5
"""Answers in a row on which a scorer may time out before it counts as hung for good."""
PROBLEM_CHARACTERS = 300
SILENT = "the scorer could not say"


@dataclass(frozen=True)
class Grade:
    """What a scorer made of an answer."""

    value: float | None
    problem: str = ""
    """Why there is no value."""


class _Fault(Exception):
    """A call of a scorer that gave nothing."""


class Grader:
    """Scores answers with every scorer of a run."""

    def __init__(self, rewards: Sequence[Reward], tick: Callable[[], None]) -> None:
        self._rewards, self._tick = rewards, tick
        self._late = dict.fromkeys((reward.label for reward in rewards), 0)
        self._told: set[str] = set()

    def grades(self, answers: Sequence[Answer]) -> dict[str, list[Grade]]:
        """For each scorer's label a grade for each answer.

        Raises Failure where a scorer hangs on answer after answer, or its service is gone.
        """
        found: dict[str, list[Grade]] = {}
        with Patience(self._tick) as patience:
            for reward in self._rewards:
                grades = found.setdefault(reward.label, [])
                for first in range(0, len(answers), reward.at_once):
                    self._tick()
                    some = answers[first : first + reward.at_once]
                    grades += self._of_some(patience, reward, some)
        return found

    def _of_some(self, patience: Patience, reward: Reward, some: Sequence[Answer]) -> list[Grade]:
        try:
            return self._asked(patience, reward, some)
        except _Fault as fault:
            if len(some) == 1:
                return [Grade(None, str(fault))]
        # One of them is at fault: alone, each shows whether it was that one.
        return [grade for one in some for grade in self._of_some(patience, reward, [one])]

    def _asked(self, patience: Patience, reward: Reward, some: Sequence[Answer]) -> list[Grade]:
        label = reward.label
        try:
            with patience.wait(label, reward.time_limit):
                found = list(reward.scores(some))
        except TimedOut as error:
            self._is_late(label, len(some), error)
            raise _Fault(f"took longer than {reward.time_limit:g} s") from error
        except (Halt, Failure, MemoryError):
            raise
        except Unavailable as error:
            raise Failure("bad-input", f"rewards: {label}: {error}") from error
        except Exception as error:
            if verdict_of(error).cause != "crash":
                raise
            self._show(label, error)
            raise _Fault(f"raised {_words(error)}") from error
        self._late[label] = 0
        if len(found) != len(some):
            raise _Fault(f"gave {len(found)} scores for {len(some)} answers")
        return [_grade(value) for value in found]

    def _is_late(self, label: str, count: int, error: TimedOut) -> None:
        if count > 1:
            return
        self._late[label] += 1
        if self._late[label] >= LATE_MOST:
            raise Failure(
                "bad-input", f"{error} (the {LATE_MOST}th answer in a row on which it did)"
            ) from error

    def _show(self, label: str, error: Exception) -> None:
        """The first error of a scorer with its lines, in the log: it may be the scorer's own."""
        if label not in self._told:
            self._told.add(label)
            print(f"the scorer {label} raised, here for the first time:", flush=True)
            traceback.print_exception(error)


def _grade(value: object) -> Grade:
    if isinstance(value, Unscorable):
        return Grade(None, str(value)[:PROBLEM_CHARACTERS] or SILENT)
    if value is None:
        return Grade(None, SILENT)
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return Grade(None, f"gave {str(value)[:60]!r}, which is no number")
    if math.isnan(number):
        return Grade(None, SILENT)
    if math.isinf(number):
        return Grade(None, f"gave {number}, which cannot be compared")
    return Grade(number)


def _words(error: Exception) -> str:
    said = str(error).strip().splitlines()
    return (
        f"{type(error).__name__}: {said[0]}"[:PROBLEM_CHARACTERS] if said else type(error).__name__
    )
