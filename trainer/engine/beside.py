"""What other processes did while the trainer took a step: their spans, as lines beside its own.

They tell of themselves later than the trainer does, each in its own time. A step waits here until it is known
what a process did up to the step's end; then what falls into the step is written, cut to it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from trainer.spans import Lap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.progress import Report
    from trainer.spans import Span

STEPS_MOST = 64
"""Steps that wait for a process which tells nothing; older ones are left without its line."""
SPANS_MOST = 2048
"""Spans of a process that nobody has asked for."""


class News(NamedTuple):
    """What a process tells of itself since the last time."""

    process: str
    spans: Sequence[Span]
    """By this process's `time.perf_counter`, in order, without a hole: all is told up to the end of the last."""


@runtime_checkable
class Teller(Protocol):
    """Knows other processes."""

    def news(self) -> list[News]:
        """What they did since the last call, also when that is nothing; waits for none of them."""


class Step(NamedTuple):
    """A step of which the trainer's own line was written."""

    step: int
    start: float
    end: float
    steps: int
    """How many steps its line stands for; 0 for what came behind the last one."""

    def known(self, until: float, share: float) -> bool:
        """Whether so much of it lies before a time."""
        return until >= self.start + share * (self.end - self.start)


@dataclass
class _Other:
    waiting: deque[Step] = field(default_factory=lambda: deque(maxlen=STEPS_MOST))
    spans: deque[Span] = field(default_factory=lambda: deque(maxlen=SPANS_MOST))
    until: float = float("-inf")


@dataclass
class Beside:
    """Puts the spans of other processes beside the steps of the trainer."""

    report: Report
    _others: dict[str, _Other] = field(default_factory=dict)

    def heard(self, news: News) -> None:
        """Take in what a process tells; it counts from the first time on."""
        other = self._others.setdefault(news.process, _Other())
        other.spans.extend(news.spans)
        if news.spans:
            other.until = news.spans[-1][2]

    def step(self, step: Step) -> None:
        """A step was written, whose spans of other processes are wanted."""
        for other in self._others.values():
            other.waiting.append(step)

    def tell(self, *, last: bool = False) -> None:
        """Write the lines that can be; with `last` also of steps that are known to nine tenths."""
        for name, other in self._others.items():
            while other.waiting and other.waiting[0].known(other.until, 0.9 if last else 1.0):
                step = other.waiting.popleft()
                lap = _cut(other.spans, step)
                self.report.spans(
                    step.step, name, lap.spans(), folded=lap.folded, stands_for=step.steps
                )
                while other.spans and other.spans[0][2] <= step.end:
                    other.spans.popleft()


def _cut(spans: Sequence[Span], step: Step) -> Lap:
    """What of the spans falls into the step."""
    lap = Lap()
    for phase, start, end in spans:
        lap.add(phase, max(start, step.start), min(end, step.end))
    return lap
