"""The plan: who starts where, who waits for what, and who gives way. A pure function of its facts.

Runs are looked at in the order of the line. One that finds room starts. One that does not has room held
for it on the machines that will be ready first, and keeps them from plan to plan; who comes after it in
the line may start there only when that moves the moment of its start to no later one (backfill). Each
machine is held for one run at most. A run on several machines gets all of them or none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from orchestrator.planner.line import line_up
from orchestrator.planner.room import LEAVING, Reserved, Room, Seat, seat_hold
from orchestrator.planner.way import cost, leaving, victims_of

if TYPE_CHECKING:
    from orchestrator.planner.facts import Demand, Facts

__all__ = ["Plan", "Seat", "Start", "Wait", "Why", "Yield", "plan"]


class Why(StrEnum):
    """What a waiting run waits for."""

    NOT_READY = (
        "not-ready"  # something other than room: its parent, a kind of run that cannot start yet
    )
    NO_MACHINE = "no-machine"  # none of the machines fits
    TOO_FEW = "too-few"  # fewer machines fit than it needs at once
    ROOM = "room"  # those that fit are full
    HELD = "held"  # there is room, and it is held for a run further ahead
    GIVEN_WAY = "given-way"  # runs of lower priority save a checkpoint and leave


@dataclass(frozen=True)
class Start:
    """A run starts now, on all of these seats."""

    run: str
    seats: tuple[Seat, ...]


@dataclass(frozen=True)
class Wait:
    """A run goes on waiting."""

    run: str
    place: int
    """1 is the first of those who go on waiting."""
    why: Why
    held: tuple[str, ...] = ()
    """Machines whose room is held for it."""
    starts_in: float | None = None
    """Seconds until those are ready; None while nobody can tell."""
    turn: bool = False
    """Whether it keeps its place before all others of its priority until it starts."""
    behind: str = ""
    """The run for which the room is held that this one would have taken."""
    at: str = ""
    """The machine of that room."""


@dataclass(frozen=True)
class Yield:
    """A run at work is to save a checkpoint and go back into the queue."""

    run: str
    leaves_for: str


@dataclass(frozen=True)
class Plan:
    """What is to be done."""

    starts: tuple[Start, ...]
    waits: tuple[Wait, ...]
    yields: tuple[Yield, ...]
    stays: tuple[str, ...]
    """Runs that were asked to give way and need not any more."""


def plan(facts: Facts) -> Plan:
    """Decide about every waiting run. Equal facts give equal plans."""
    planner = _Planner(facts)
    for demand in line_up(facts):
        planner.decide(demand)
    return planner.plan(facts)


class _Planner:
    def __init__(self, facts: Facts) -> None:
        self.rooms = {
            machine.id: Room(machine, (h for h in facts.holds if h.machine == machine.id))
            for machine in sorted(facts.machines, key=lambda one: one.id)
        }
        self.starts: list[Start] = []
        self.waits: list[Wait] = []
        self.yields: list[Yield] = []
        self.turns: set[int] = set()
        """Priorities of which a ready run waits already."""
        self.needed: set[str] = set()
        """Runs for which others still have to leave."""

    def decide(self, demand: Demand) -> None:
        """Start the run, or find out what it waits for."""
        place = len(self.waits) + 1
        if not demand.ready:
            self.waits.append(Wait(demand.run, place, Why.NOT_READY))
            return
        fitting = [room for room in self.rooms.values() if room.machine.id in demand.fits]
        if len(fitting) < demand.machines:
            why = Why.TOO_FEW if fitting else Why.NO_MACHINE
            self.waits.append(Wait(demand.run, place, why))
            return
        seats: list[tuple[Room, Seat]] = []
        barred: list[tuple[Room, Seat]] = []
        for room in fitting:
            if (seat := room.seat(demand)) is not None:
                (barred if room.would_delay(demand, seat) else seats).append((room, seat))
        if len(seats) >= demand.machines:
            self._start(demand, seats)
            return
        wait = self._make_way(demand, place, fitting)
        if wait is None:
            wait = self._wait(demand, place, fitting, [room for room, _ in barred])
        first = demand.priority not in self.turns
        self.turns.add(demand.priority)
        turn = first and bool(wait.held) and demand.units > 1
        self.waits.append(replace(wait, turn=turn))

    def _start(self, demand: Demand, found: list[tuple[Room, Seat]]) -> None:
        best = sorted(found, key=lambda pair: _preference(demand, *pair))[: demand.machines]
        for room, seat in best:
            room.holds.append(seat_hold(demand, seat))
        self.starts.append(Start(demand.run, tuple(seat for _, seat in best)))

    def _make_way(self, demand: Demand, place: int, fitting: list[Room]) -> Wait | None:
        """Ask the fewest runs of lower priority that may be asked to leave, when that makes room."""
        if demand.machines != 1:
            return None
        free = [room for room in fitting if room.reserved is None]
        if any(room.opens_in(demand) <= LEAVING and not room.left_for(demand) for room in free):
            return None  # as soon as anybody could leave, there is room anyway
        found = [(room, out) for room in free if (out := victims_of(demand, room)) is not None]
        if not found:
            return None
        room, victims = min(found, key=lambda pair: cost(demand, *pair))
        self.yields += [Yield(h.run, demand.run) for h in victims if not h.leaves_for]
        self.needed.add(demand.run)
        room.holds = [
            hold if hold not in victims else leaving(hold, demand.run) for hold in room.holds
        ]
        opens = room.opens_in(demand)
        room.reserved = Reserved(demand, opens)
        return Wait(demand.run, place, Why.GIVEN_WAY, (room.machine.id,), _finite(opens))

    def _wait(self, demand: Demand, place: int, fitting: list[Room], barred: list[Room]) -> Wait:
        held, opens = self._reserve(demand, fitting)
        if barred and not held and (first := barred[0].reserved) is not None:
            at = barred[0].machine.id
            return Wait(demand.run, place, Why.HELD, behind=first.demand.run, at=at)
        return Wait(demand.run, place, Why.ROOM, held, _finite(opens))

    def _reserve(self, demand: Demand, fitting: list[Room]) -> tuple[tuple[str, ...], float]:
        """Hold the machines that are ready first, or those that were held before; () when too few are left."""
        free = [room for room in fitting if room.reserved is None]
        if len(free) < demand.machines:
            return (), float("inf")
        opens = {room.machine.id: room.opens_in(demand) for room in free}
        kept = set(demand.held_for_it)
        best = sorted(
            free,
            key=lambda room: (
                room.machine.id not in kept,
                opens[room.machine.id],
                room.lacks(demand),
                room.machine.id,
            ),
        )[: demand.machines]
        names = tuple(sorted(room.machine.id for room in best))
        reserved = Reserved(demand, max(opens[name] for name in names))
        for room in best:
            room.reserved = reserved
        return names, reserved.starts_in

    def plan(self, facts: Facts) -> Plan:
        """What has been decided."""
        stays = sorted(
            {h.run for h in facts.holds if h.leaves_for and h.leaves_for not in self.needed}
        )
        return Plan(tuple(self.starts), tuple(self.waits), tuple(self.yields), tuple(stays))


def _preference(demand: Demand, room: Room, seat: Seat) -> tuple[bool, bool, bool, int, str]:
    """Where it worked before; not where room is held; GPU machines for those who need one, filled up one
    after the other so that large runs find whole ones; others are spread."""
    left = room.free_slots() - seat.slots
    without_gpus = not room.machine.gpus
    return (
        room.machine.id != demand.home,
        room.reserved is not None and room.reserved.demand.run != demand.run,
        bool(not seat.gpus and room.machine.gpus),
        -left if without_gpus else left,
        room.machine.id,
    )


def _finite(seconds: float) -> float | None:
    return None if seconds == float("inf") else seconds
