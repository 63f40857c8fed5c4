"""What a run may be shown as, judged by what was really there: pure functions of a witness's moments.

A state may be untrue for as long as the promise and the grace behind it. A rule is broken when what it forbids
goes on for longer than that, and longer than the looks themselves lay apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.chaos.witness import Moment

ACTIVE = frozenset({"starting", "running", "pausing", "stopping"})
UNKNOWN = 4.0
"""Seconds without an answer of the server across which what was so before and behind is taken to have been so."""
TOLD = ("said nothing", "Nothing of the trainer", "stall", "hung")
"""Words by which a run that is shown as running admits that its trainer is silent."""
LEGAL: dict[str, frozenset[str]] = {
    "draft": frozenset({"queued"}),
    "queued": frozenset({"starting", "running", "paused", "stopped", "failed", "finished"}),
    "starting": frozenset(
        {
            *("running", "pausing", "stopping", "queued", "lost"),
            *("failed", "finished", "stopped", "paused"),
        }
    ),
    "running": frozenset(
        {*("pausing", "stopping", "queued", "lost"), *("failed", "finished", "stopped", "paused")}
    ),
    "pausing": frozenset(
        {"paused", "running", "starting", "stopping", "lost", "failed", "finished", "queued"}
    ),
    "paused": frozenset({"queued", "stopped"}),
    "stopping": frozenset({"stopped", "lost", "failed", "finished"}),
    "lost": frozenset(
        {
            *("starting", "running", "pausing", "stopping", "queued"),
            *("failed", "finished", "stopped", "paused"),
        }
    ),
    "stopped": frozenset({"queued"}),
    "failed": frozenset({"queued"}),
    "finished": frozenset(),
}
"""From each state those that may follow it."""


@dataclass(frozen=True)
class Patience:
    """Seconds for which something untrue may be shown."""

    lease: float
    """Lease and grace."""
    promise: float
    """The longest promise that a trainer of the run has made, and grace."""
    fence: float
    """How long a fenced trainer may take to end, once it is told."""
    slack: float = 3.0
    """For looking, asking and delivering, on a machine that is busy."""


class View(NamedTuple):
    """One moment of one run."""

    time: float
    state: str
    reason: str
    attempt: int
    trainers: dict[int, str]
    """Letter of its state in /proc by attempt."""
    hosts: dict[int, str]
    ships: dict[int, str]
    open: bool
    """Whether a word of the current attempt would arrive: its road is open and its disk has room."""
    works: str
    """The letter of its node's worker; "" for none."""


class Violation(NamedTuple):
    """A rule that was broken, from when to when."""

    rule: str
    begun: float
    ended: float
    example: View

    def __str__(self) -> str:
        span = f"{self.begun:.1f} to {self.ended:.1f} s ({self.ended - self.begun:.1f} s)"
        return f"{self.rule}, {span}: {self.example}"


def views_of(moments: Sequence[Moment], run: str, begun: float) -> Iterator[View | None]:
    """The run at each moment, times counted from `begun`; None while nothing is shown."""
    disk = ""
    for moment in moments:
        shown = (moment.shown or {}).get(run)
        if shown is None:
            yield None
            continue
        letters: dict[str, dict[int, str]] = {"trainer": {}, "host": {}, "ship": {}}
        for one, letter in moment.processes.items():
            if one.run == run:
                letters[one.role][one.attempt] = letter
                if one.attempt == shown["attempt"]:
                    disk = one.disk
        names = {machine["name"]: place for place, machine in moment.machines.items()}
        machine = moment.machines.get(names.get(shown["node"] or "", disk), {})
        yield View(
            time=moment.time - begun,
            state=shown["state"],
            reason=shown["reason"],
            attempt=shown["attempt"],
            trainers=letters["trainer"],
            hosts=letters["host"],
            ships=letters["ship"],
            open=bool(machine.get("open"))
            and not machine.get("full")
            and not machine.get("latency"),
            works=machine.get("works", ""),
        )


def violations(views: Sequence[View | None], patience: Patience) -> list[Violation]:
    """Every rule of states that was broken."""
    lease, promise = patience.lease + patience.slack, patience.promise + patience.slack
    rules: tuple[tuple[str, Callable[[View], bool], float], ...] = (
        ("shown at work, and nothing of it lives", _nothing_lives, lease),
        ("shown as over or away, and its trainer works in contact", _lives_in_contact, lease),
        ("shown at work, and its trainer is gone, as its host could say", _dead_and_known, lease),
        (
            "shown as running, and nobody says that its trainer is silent",
            _silent_untold,
            max(promise, lease),
        ),
        ("two trainers that could both publish", _two_in_contact, lease + patience.fence),
    )
    return [
        Violation(name, found[0].time, found[-1].time, found[-1])
        for name, broken, most in rules
        for found in _spans(views, broken)
        if found[-1].time - found[0].time > most
    ]


def _spans(views: Sequence[View | None], broken: Callable[[View], bool]) -> Iterator[list[View]]:
    """The spans in which something is so, of one attempt each; a short silence of the server ends none."""
    span: list[View] = []
    for view in views:
        if view is None:
            continue
        bad = broken(view)
        last = span[-1] if span else view
        if bad and last.attempt == view.attempt and 0 <= view.time - last.time <= UNKNOWN:
            span.append(view)
            continue
        if span:
            yield span
        span = [view] if bad else []
    if span:
        yield span


def _lives(letters: dict[int, str], attempt: int) -> bool:
    return letters.get(attempt, "") not in ("", "X")


def _speaks(letter: str) -> bool:
    return letter not in ("", "T", "t", "X")


def _nothing_lives(view: View) -> bool:
    parts = (view.trainers, view.hosts, view.ships)
    preparing = view.state == "starting" and _speaks(view.works)
    return (
        view.state in ACTIVE
        and not any(_lives(letters, view.attempt) for letters in parts)
        and not preparing
    )


def _lives_in_contact(view: View) -> bool:
    speakers = (view.hosts.get(view.attempt, ""), view.ships.get(view.attempt, ""), view.works)
    return (
        view.state not in ACTIVE
        and view.open
        and _speaks(view.trainers.get(view.attempt, ""))
        and any(map(_speaks, speakers))
    )


def _dead_and_known(view: View) -> bool:
    return (
        view.state in ("running", "pausing", "stopping")
        and view.open
        and not _lives(view.trainers, view.attempt)
        and _speaks(view.hosts.get(view.attempt, ""))
    )


def _silent_untold(view: View) -> bool:
    silent = not _speaks(view.trainers.get(view.attempt, ""))
    return view.state == "running" and silent and not any(word in view.reason for word in TOLD)


def _two_in_contact(view: View) -> bool:
    return view.open and sum(map(_speaks, view.trainers.values())) > 1


def path_breaks(states: Sequence[tuple[str, str]]) -> list[str]:
    """What is wrong with the history of (was, is): a gap, or a step that no state allows."""
    breaks = []
    before = "queued"
    for was, now in states:
        if was != before:
            breaks.append(f"it was {before}, and then left {was}")
        if now != was and now not in LEGAL.get(was, ()):
            breaks.append(f"{was} became {now}")
        before = now
    return breaks
