"""What the lines of a plan add up to: seconds of each phase, and what the time of the whole went to.

The critical path follows the process that takes the optimizer steps. While that one waits, the path goes on in
the process that is waited for: among those at work then, the one that is busy longest.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from trainer.spans import TRAINER, WAIT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.selectors.plan_lines import StepLine

PHASES = (
    *("data", "rollout", "reward", "logprob", "update", "sync", "eval", "checkpoint"),
    *(WAIT, "other"),
)
"""In the order in which they are listed; any other name stands before these two last ones."""
NO_WORK = frozenset({WAIT, "other"})


@dataclass(frozen=True)
class PhaseTime:
    """A phase of a process, over all steps that the lines stand for."""

    process: str
    phase: str
    p50: float
    """Seconds of a step, the median of the steps that have this phase."""
    mean: float
    """Seconds of a step, over all steps."""
    share: float
    """Of the time of its process."""
    steps: int
    """Steps that have it."""


def path_process(lines: Iterable[StepLine]) -> str | None:
    """The process whose time is the run's: the trainer, else the first by name."""
    names = {line.process for line in lines}
    return TRAINER if TRAINER in names else min(names, default=None)


def processes_of(lines: Iterable[StepLine]) -> list[str]:
    """The processes, the one of the path first."""
    lines = list(lines)
    first = path_process(lines)
    return sorted({line.process for line in lines}, key=lambda name: (name != first, name))


def phase_order(phase: str) -> tuple[int, str]:
    """Where a phase stands in a list."""
    known = PHASES.index(phase) if phase in PHASES else len(PHASES) - len(NO_WORK)
    return known + (phase in NO_WORK), phase


def phase_times(lines: Sequence[StepLine]) -> list[PhaseTime]:
    """The phases of each process, in order."""
    found = []
    for process in processes_of(lines):
        own = [line for line in lines if line.process == process and line.steps]
        steps = sum(line.steps for line in own)
        whole = sum(line.steps * line.seconds for line in own)
        by_phase: dict[str, list[tuple[float, int]]] = {}
        for line in own:
            for phase, seconds in line.spent().items():
                by_phase.setdefault(phase, []).append((seconds, line.steps))
        for phase in sorted(by_phase, key=phase_order):
            times = by_phase[phase]
            total = sum(seconds * count for seconds, count in times)
            having = sum(count for _, count in times)
            share = total / whole if whole else 0.0
            found.append(PhaseTime(process, phase, median(times), total / steps, share, having))
    return found


def step_seconds(lines: Sequence[StepLine]) -> float | None:
    """The median of a step's length along the path; None before the first one."""
    first = path_process(lines)
    times = [(line.seconds, line.steps) for line in lines if line.process == first and line.steps]
    return median(times) if times else None


def median(times: Iterable[tuple[float, int]]) -> float:
    """The weighted median: (value, weight) pairs, at least one."""
    ordered = sorted(times)
    half, passed = sum(weight for _, weight in ordered) / 2, 0.0
    for place, (value, weight) in enumerate(ordered):
        passed += weight
        if passed > half:
            return value
        if passed == half:
            return (value + ordered[place + 1][0]) / 2
    raise ValueError("no times")


def path_shares(lines: Sequence[StepLine]) -> dict[str, float]:
    """Share of the critical path by phase; the shares sum to 1. Empty before the first step."""
    first = path_process(lines)
    others = _Others(line for line in lines if line.process != first)
    spent: dict[str, float] = {}
    for line in lines:
        if line.process != first or not line.steps:
            continue
        for phase, start, end in line.spans:
            parts = [(phase, end - start)]
            if phase == WAIT:
                parts = others.behind(line.start + start, line.start + end)
            for name, seconds in parts:
                spent[name] = spent.get(name, 0.0) + line.steps * seconds
    whole = sum(spent.values())
    return {phase: seconds / whole for phase, seconds in spent.items()} if whole else {}


class _Others:
    """What the other processes were at work on, by the clock."""

    def __init__(self, lines: Iterable[StepLine]) -> None:
        self.spans = sorted(
            (line.start + start, line.start + end, phase)
            for line in lines
            for phase, start, end in line.spans
            if phase not in NO_WORK and end > start
        )
        self.longest = max((end - start for start, end, _ in self.spans), default=0.0)

    def behind(self, start: float, end: float) -> list[tuple[str, float]]:
        """(phase, seconds) of what a wait was for; the rest of it was for nothing that is known."""
        place = bisect_left(self.spans, (start - self.longest,))
        stop = bisect_left(self.spans, (end,))
        overlap = [one for one in self.spans[place:stop] if one[1] > start]
        edges = sorted({start, end, *(t for a, b, _ in overlap for t in (a, b) if start < t < end)})
        found = []
        for low, high in pairwise(edges):
            at_work = [(b, phase) for a, b, phase in overlap if a <= low and b >= high]
            found.append((max(at_work)[1] if at_work else WAIT, high - low))
        return found


def bottleneck_of(shares: dict[str, float]) -> str | None:
    """The phase with the largest share of the path; `other` is none that could be named."""
    named = {phase: share for phase, share in shares.items() if phase != "other"}
    return max(named, key=lambda phase: named[phase]) if named else None
