"""The line of waiting runs: priority, then the owner's fair share, then age.

An owner's share is what they have used, in unit-seconds (a unit is a GPU, or a slot on a machine without
GPUs) that lose half their weight every HALF_LIFE, plus one hour for each unit that they hold now. The
smaller share goes first. Shares that differ by less than a minute of one unit count as equal.

One run of each priority may have the turn: the first of them that waits for several units to be given back.
It stays first whatever the shares become, or machines would be emptied for it over and over in vain.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.planner.facts import Demand, Facts

HALF_LIFE = 24 * 3600.0
"""Seconds after which past use counts half."""
AHEAD = 3600.0
"""Seconds that a unit is charged for as soon as it is held: shares move when a run starts, not later."""
GRAIN = 60.0


def shares(facts: Facts) -> dict[str, float]:
    """The share of every owner who uses, used, or waits, in unit-seconds."""
    found: dict[str, float] = defaultdict(float, {o: float(use) for o, use in facts.used.items()})
    for hold in facts.holds:
        found[hold.owner] += AHEAD * hold.slots
    for demand in facts.demands:
        found[demand.owner] += 0.0
    return dict(found)


def line_up(facts: Facts) -> list[Demand]:
    """The waiting runs, first one first.

    Each one that could start is charged to its owner before the next is picked, so that owners take turns.
    """
    share = shares(facts)
    levels: dict[int, list[Demand]] = defaultdict(list)
    for demand in facts.demands:
        levels[demand.priority].append(demand)
    return [one for level in sorted(levels, reverse=True) for one in _level(levels[level], share)]


def _level(demands: Iterable[Demand], share: dict[str, float]) -> Iterable[Demand]:
    """The runs of one priority; charges `share` as it goes."""
    own: dict[str, list[Demand]] = defaultdict(list)
    for demand in sorted(demands, key=lambda one: (not one.turn, one.age, one.run), reverse=True):
        own[demand.owner].append(demand)
    heads = [_head(queue, share) for queue in own.values()]
    heapq.heapify(heads)
    while heads:
        owner = heapq.heappop(heads)[-1]
        demand = own[owner].pop()
        yield demand
        if demand.ready:
            share[owner] += AHEAD * demand.units
        if own[owner]:
            heapq.heappush(heads, _head(own[owner], share))


def _head(queue: list[Demand], share: dict[str, float]) -> tuple[bool, int, float, str, str]:
    first = queue[-1]
    return not first.turn, int(share[first.owner] // GRAIN), first.age, first.run, first.owner
