"""What each process did in the newest steps of a run, as its journals tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from orchestrator.models import StepSpans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.models import Run

KEPT = 400
"""Lines of each process that a run keeps."""
READ_MOST = 8 * KEPT
"""Lines that are looked at, of all processes together."""


class Span(NamedTuple):
    """A phase at work, in seconds since the start of its line."""

    phase: str
    start: float
    end: float


@dataclass(frozen=True)
class StepLine:
    """One process in one step."""

    attempt: int
    process: str
    step: int
    steps: int
    """How many steps it stands for; 0 for what came behind the last one."""
    start: float
    """Unix seconds, by the node's clock."""
    spans: tuple[Span, ...]
    folded: int = 0
    """How many spans were added up, one span a phase, at the end."""

    @property
    def seconds(self) -> float:
        """From its first span to the end of its last one."""
        return max((span.end for span in self.spans), default=0.0)

    def spent(self) -> dict[str, float]:
        """Seconds by phase."""
        found: dict[str, float] = {}
        for phase, start, end in self.spans:
            found[phase] = found.get(phase, 0.0) + end - start
        return found


def lines_read(run: Run) -> list[StepLine]:
    """The newest lines of a run, oldest first, without those that a later attempt did again."""
    rows = StepSpans.objects.filter(run=run).order_by("-attempt", "-seq")[:READ_MOST]
    lines = [
        StepLine(
            row.attempt,
            row.process,
            row.step,
            row.steps,
            row.start,
            tuple(Span(*span) for span in row.spans),
            row.folded,
        )
        for row in rows
    ]
    return list(reversed(standing(lines)))


def standing(lines: Iterable[StepLine]) -> list[StepLine]:
    """Of lines that come newest first, those that stand: at most `KEPT` of each process.

    A later attempt supersedes the steps that it went through, also those of which it wrote no line of its own.
    """
    found: list[StepLine] = []
    kept: dict[str, int] = {}
    reach: dict[str, dict[int, tuple[int, int]]] = {}
    for line in lines:
        known = reach.setdefault(line.process, {})
        later = [span for attempt, span in known.items() if attempt > line.attempt]
        if any(low <= line.step <= high for low, high in later):
            continue
        low, high = known.get(line.attempt, (line.step, line.step))
        known[line.attempt] = (min(low, line.step), max(high, line.step))
        kept[line.process] = kept.get(line.process, 0) + 1
        if kept[line.process] <= KEPT:
            found.append(line)
    return found


def steps_of(lines: Sequence[StepLine], low: int, high: int) -> list[StepLine]:
    """The lines of some steps, both ends included."""
    return [line for line in lines if low <= line.step <= high]


def newest_steps(lines: Sequence[StepLine], most: int) -> tuple[int, int] | None:
    """From which to which step the newest `most` steps reach that have lines; None without lines."""
    steps = sorted({line.step for line in lines})[-most:]
    return (steps[0], steps[-1]) if steps else None
