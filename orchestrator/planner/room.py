"""The room on one machine while a plan is made: what is free, when more will be, and for whom it is held."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.planner.facts import Hold

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.planner.facts import Demand, Gpu, Machine

LEAVING = 60.0
"""Seconds within which a run that was asked to give way is taken to be gone."""


@dataclass(frozen=True)
class Seat:
    """What a run would get of a machine."""

    machine: str
    slots: int
    gpus: tuple[int, ...]
    """Indices."""


@dataclass(frozen=True)
class Reserved:
    """Room that is held for a run until it can start."""

    demand: Demand
    starts_in: float
    """Seconds until all of its machines have room; infinite while nobody can tell."""


class Room:
    """One machine. Runs only come in while a plan is made; none leaves."""

    def __init__(self, machine: Machine, holds: Iterable[Hold]) -> None:
        self.machine = machine
        self.holds = list(holds)
        self.reserved: Reserved | None = None

    def seat(self, demand: Demand, without: Iterable[Hold] = ()) -> Seat | None:
        """What the run would get now, if the holds `without` were gone; None when there is not enough."""
        gone = {id(hold) for hold in without}
        return self._seat(demand, [hold for hold in self.holds if id(hold) not in gone])

    def _seat(self, demand: Demand, holds: list[Hold]) -> Seat | None:
        count, slots = demand.gpus_on(self.machine), demand.slots_on(self.machine)
        free = self._free_gpus(holds, demand.memory)
        if slots > self.machine.slots - sum(hold.slots for hold in holds) or count > len(free):
            return None
        # The smallest that are large enough: larger ones stay for those who need them.
        return Seat(self.machine.id, slots, tuple(sorted(gpu.index for gpu in free[:count])))

    def _free_gpus(self, holds: list[Hold], memory: int) -> list[Gpu]:
        taken = {index for hold in holds for index in hold.gpus}
        large = [g for g in self.machine.gpus if g.index not in taken and g.memory >= memory]
        return sorted(large, key=lambda gpu: (gpu.memory, gpu.index))

    def free_slots(self) -> int:
        """Slots that nobody holds."""
        return self.machine.slots - sum(hold.slots for hold in self.holds)

    def free_gpus(self, memory: int = 0) -> int:
        """GPUs with so many bytes that nobody holds."""
        return len(self._free_gpus(self.holds, memory))

    def opens_in(self, demand: Demand, more: Iterable[Hold] = ()) -> float:
        """Seconds until the run has room here, if nothing else came in; infinite when nobody can tell."""
        here = [*self.holds, *more]
        if self._seat(demand, here) is not None:
            return 0.0
        for moment in sorted({_end(hold) for hold in here} - {math.inf}):
            if self._seat(demand, [hold for hold in here if _end(hold) > moment]) is not None:
                return moment
        return math.inf

    def would_delay(self, demand: Demand, seat: Seat) -> bool:
        """Whether giving `seat` to the run would move what is reserved here to a later moment."""
        if self.reserved is None or self.reserved.demand.run == demand.run:
            return False
        first = self.reserved.demand
        newcomer = [seat_hold(demand, seat)]
        if math.isfinite(self.reserved.starts_in):
            return self.opens_in(first, newcomer) > self.reserved.starts_in
        # Nobody knows when it can start: what it still lacks must not become more.
        before, after = self._lacks(first, self.holds), self._lacks(first, [*self.holds, *newcomer])
        return after[0] > before[0] or after[1] > before[1]

    def _lacks(self, demand: Demand, holds: list[Hold]) -> tuple[int, int]:
        free = self.machine.slots - sum(hold.slots for hold in holds)
        gpus = len(self._free_gpus(holds, demand.memory))
        slots = demand.slots_on(self.machine) - free
        return max(0, slots), max(0, demand.gpus_on(self.machine) - gpus)

    def left_for(self, demand: Demand) -> list[Hold]:
        """What is on its way out for this run, and still has reason to be."""
        leaving = [hold for hold in self.holds if hold.leaves_for == demand.run]
        return [hold for hold in leaving if hold.yields and hold.priority < demand.priority]

    def lacks(self, demand: Demand) -> int:
        """Slots and GPUs that must be given back before the run has room here."""
        return sum(self._lacks(demand, self.holds))


def seat_hold(demand: Demand, seat: Seat) -> Hold:
    """The hold that a run has once it starts on a seat."""
    return Hold(
        run=demand.run,
        owner=demand.owner,
        machine=seat.machine,
        slots=seat.slots,
        gpus=seat.gpus,
        priority=demand.priority,
        ends_in=demand.lasts,
    )


def _end(hold: Hold) -> float:
    """Seconds until it has ended; one that should have ended by now is given a second more."""
    known = math.inf if hold.ends_in is None else max(1.0, hold.ends_in)
    return min(LEAVING, known) if hold.leaves_for else known
