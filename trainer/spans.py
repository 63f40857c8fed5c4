"""Which phases of a step were at work when, process by process: what a `spans` line of the journal holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

Span = tuple[str, float, float]
"""(phase, start, end) in seconds of `time.perf_counter`, which all processes of a machine share."""

TRAINER = "trainer"
"""The process that owns the journal and takes the optimizer steps: time is counted along it."""
WAIT = "wait"
"""The phase in which a process does nothing but wait for another one."""
SELDOM = frozenset({"eval", "checkpoint"})
"""Phases of few steps: such a step is always written, and stands for itself alone."""

EVERY = 0.25
"""Seconds between two lines of a process, at least; steps that are quicker are written now and then."""
SPANS_MOST = 48
"""Spans of a lap that are kept one by one."""
LINE_SPANS_MOST = 2 * SPANS_MOST
"""Spans of a line that a server takes: those, and one of each phase in which the others were added up."""
LABEL_LENGTH = 40
"""Characters of the name of a process or phase."""


class Lap:
    """The spans of one lap, in order, without a hole between them.

    Behind the first `SPANS_MOST` they alternate too often to draw: the others are added up, one span a phase.
    """

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._rest: dict[str, float] = {}
        self.folded = 0
        """How many spans were added up."""

    def add(self, phase: str, start: float, end: float) -> None:
        """Note that a phase has ended; `start` is where the one before it ended."""
        if end <= start:
            return
        last = self._spans[-1] if self._spans else None
        if last is not None and not self._rest and (last[0], last[2]) == (phase, start):
            self._spans[-1] = (phase, last[1], end)
            return
        if len(self._spans) < SPANS_MOST:
            self._spans.append((phase, start, end))
            return
        self._rest[phase] = self._rest.get(phase, 0.0) + end - start
        self.folded += 1

    def spans(self) -> list[Span]:
        """All of them; those that were added up stand end to end behind the others."""
        found = list(self._spans)
        at = found[-1][2] if found else 0.0
        for phase, seconds in self._rest.items():
            found.append((phase, at, at + seconds))
            at += seconds
        return found


class SpanLines:
    """Makes the lines of spans, few enough to cost nothing, such that sums over them stay true.

    A line says for how many steps it stands: itself, and the quicker ones before it that were left out.
    """

    def __init__(self) -> None:
        # One anchor for all: a clock that is set later on moves no span against another.
        self._zero = time.time() - time.perf_counter()
        self._written: dict[str, float] = {}
        self._skipped: dict[str, int] = {}

    def line(
        self,
        step: int,
        process: str,
        spans: Sequence[Span],
        *,
        folded: int = 0,
        counts: bool = True,
        stands_for: int | None = None,
    ) -> dict[str, Any] | None:
        """The fields of the line of a step, or None where it is left out.

        Without `counts` it is always written and stands for no step: what was done behind the last one. So is
        it with `stands_for`, where another process's line of the step has decided for how many it stands.
        """
        if not spans:
            return None
        seldom = not counts or any(phase in SELDOM for phase, _, _ in spans)
        skipped = self._skipped.get(process, 0)
        now = time.perf_counter()
        steps = 0 if not counts else 1 if seldom else 1 + skipped
        if stands_for is not None:
            steps = stands_for
        elif not seldom:
            if now - self._written.get(process, -EVERY) < EVERY:
                self._skipped[process] = skipped + 1
                return None
            self._written[process], self._skipped[process] = now, 0
        first = min(start for _, start, _ in spans)
        return {
            "step": step,
            "process": process,
            "steps": steps,
            "start": round(self._zero + first, 6),
            "spans": [
                [phase, round(start - first, 6), round(end - first, 6)]
                for phase, start, end in spans
            ],
            **({"folded": folded} if folded else {}),
        }
