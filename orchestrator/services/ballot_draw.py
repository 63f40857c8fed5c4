"""Which pair comes next: drawn by chance, the least voted first. No database, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.models import Outcome

if TYPE_CHECKING:
    import random

    from orchestrator.selectors.ballot_pool import Pair, Place, Pool

AGAIN = 0.15
"""Share of ballots with a pair that somebody else has voted on: without them nobody could say whether
voters agree."""
JITTER = 2.0
"""Votes by which two arms may be ahead and still come next, so that nobody can foretell them."""


@dataclass(frozen=True)
class Drawn:
    """A pair in the order in which it is shown."""

    item: int
    index: int
    left: int
    right: int
    gold: str
    """The right outcome in this order, of a test item; else ""."""


def ballot_draw(pool: Pool, chance: random.Random, *, gold_rate: float) -> Drawn | None:
    """A pair that the voter has not seen; None where none is left that would count.

    A test item comes with the chance `gold_rate`, while there are any. Else the two arms with the fewest
    votes, give or take `JITTER`, and of the prompts where they differ one with the fewest votes.
    """
    found = _rated(pool, chance)
    gold = pool.gold_left()
    if found and gold and chance.random() < gold_rate:
        found = chance.choice(gold)
    return None if found is None else _turned(found, pool, chance)


def _rated(pool: Pool, chance: random.Random) -> Pair | None:
    totals = dict.fromkeys(pool.sides(), 0)
    for (_, sides), count in pool.votes.items():
        totals[sides] += count
    again = chance.random() < AGAIN
    for sides in sorted(totals, key=lambda sides: totals[sides] + JITTER * chance.random()):
        places = pool.left(sides)
        voted = [place for place in places if pool.votes[place, sides]]
        if again and voted:
            return chance.choice(voted), sides
        if places:
            return _least(places, pool, sides, chance), sides
    return None


def _least(places: list[Place], pool: Pool, sides: tuple[int, int], chance: random.Random) -> Place:
    least = min(pool.votes[place, sides] for place in places)
    return chance.choice([place for place in places if pool.votes[place, sides] == least])


def _turned(pair: Pair, pool: Pool, chance: random.Random) -> Drawn:
    (item, index), sides = pair
    left, right = sides if chance.random() < 0.5 else sides[::-1]
    gold = ""
    if (better := pool.gold.get(pair)) is not None:
        gold = Outcome.LEFT if better == left else Outcome.RIGHT
    return Drawn(item, index, left, right, str(gold))
