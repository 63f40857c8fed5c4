"""Giving way: which runs at work leave a machine so that one of a higher priority finds room there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.planner.facts import Demand, Hold
    from orchestrator.planner.room import Room


def victims_of(demand: Demand, room: Room) -> list[Hold] | None:
    """The holds that leave for the run, those that were asked before included; None when that is no way.

    Only runs that allow it and have a lower priority leave: the lowest priority first, then the one that
    worked least.
    """
    chosen = room.left_for(demand)
    if chosen and room.seat(demand, chosen) is not None:
        return chosen
    may = [h for h in room.holds if h.yields and h.priority < demand.priority and not h.leaves_for]
    for hold in sorted(may, key=lambda one: (one.priority, one.at_work, one.run)):
        chosen.append(hold)
        if room.seat(demand, chosen) is not None:
            return _fewest(demand, room, chosen)
    return None


def _fewest(demand: Demand, room: Room, chosen: list[Hold]) -> list[Hold]:
    """Without those who need not leave after all: the ones that would be asked last stay asked."""
    for hold in list(chosen):
        rest = [one for one in chosen if one is not hold]
        if not hold.leaves_for and room.seat(demand, rest) is not None:
            chosen = rest
    return chosen


def cost(demand: Demand, room: Room, victims: list[Hold]) -> tuple[int, int, int, bool, float, str]:
    """What it costs that these leave: runs asked anew, the highest priority among them, units, work."""
    asked = [hold for hold in victims if not hold.leaves_for]
    return (
        len(asked),
        max((hold.priority for hold in asked), default=-(10**9)),
        sum(hold.slots for hold in asked),
        room.machine.id not in demand.held_for_it,
        sum(hold.at_work for hold in asked),
        room.machine.id,
    )


def leaving(hold: Hold, run: str) -> Hold:
    """The hold of a run that was asked to leave for another one."""
    return replace(hold, leaves_for=run)
