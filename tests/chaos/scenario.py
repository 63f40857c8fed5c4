"""Scenarios: what is done to one run and its machines, made from a seed alone.

Any 200 seeds in a row hold every kind of fault, every moment, and every pair of kinds in one scenario.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, replace
from typing import NamedTuple

KINDS = ("kill", "hang", "cut", "clock", "disk", "slow", "order", "reboot", "user")
MOMENTS = (
    *("queued", "starting", "training", "saving", "evaluating"),
    *("stopping", "pausing", "undelivered"),
)
"""In the order of a run's life; `undelivered`: it has ended and the server does not know yet."""
PAIRS = tuple(itertools.combinations_with_replacement(KINDS, 2))
FOR_EVER = 0.0
SHORT, LONG = (0.5, 3.0), (12.0, 16.0)
"""Seconds; a long fault lasts longer than lease, grace and the wait for another node together."""
OF_SERVER = frozenset({"web", "control", "database", "backend"})
VICTIMS: dict[str, tuple[str, ...]] = {
    "kill": ("trainer", "host", "ship", "node", "web", "control", "database"),
    "hang": ("trainer", "host", "ship", "node", "web", "control", "backend"),
    "cut": ("silent", "reset"),
    "clock": ("forward", "back"),
    "disk": ("full",),
    "slow": ("road", "web"),
    "order": ("again", "old", "forged", "both", "race"),
    "reboot": ("machine",),
    "user": ("stop", "pause", "resume", "priority"),
}
"""A cut is silent (packets vanish) or resets connections; `both` sends the order to both nodes, `race` claims it
by several clients at once; `resume` is a pause that is taken back at once."""


@dataclass(frozen=True)
class Fault:
    """One of them: at which moment, how long after it begins, to whom, and for how long."""

    kind: str
    victim: str
    moment: str
    wait: float
    seconds: float = FOR_EVER
    """0 is for ever, also where nothing lasts."""
    size: float = 0.0
    """Seconds of a clock's jump, of latency, or how many orders."""

    @property
    def lasts(self) -> bool:
        """Whether it is something that can be healed."""
        return self.kind in ("hang", "cut", "disk", "slow", "reboot")

    @property
    def never_heals(self) -> bool:
        """Whether it lasts until the run has come to its end."""
        return self.lasts and self.seconds == FOR_EVER

    def __str__(self) -> str:
        span = "for ever" if self.never_heals else f"{self.seconds:.1f} s" if self.lasts else ""
        size = f" ({self.size:+.1f})" if self.size else ""
        return f"{self.kind} {self.victim}{size} {span} at {self.moment} + {self.wait:.2f} s"


class Scenario(NamedTuple):
    """What happens to one run."""

    seed: int
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        return f"scenario {self.seed}: " + "; ".join(map(str, self.faults))


def scenario_of(seed: int) -> Scenario:
    """The scenario of a seed, the same ever after."""
    chance = random.Random(f"anneal-{seed}")
    turn, place = divmod(seed, len(PAIRS))
    kinds = list(PAIRS[place])
    chance.shuffle(kinds)
    if turn % 5 == 0:
        del kinds[1:]
    else:
        kinds += chance.choices(KINDS, k=chance.choice((0, 0, 1, 2)))
    moments = [MOMENTS[seed % len(MOMENTS)]]
    moments += chance.choices(MOMENTS, k=len(kinds) - 1)
    faults = [_fault(chance, *both) for both in zip(kinds, moments, strict=True)]
    return Scenario(seed, tuple(sorted(_possible(faults), key=_order)))


def _fault(chance: random.Random, kind: str, moment: str) -> Fault:
    victim = chance.choice(VICTIMS[kind])
    made = Fault(kind, victim, moment, round(chance.uniform(0.0, 1.0), 2))
    if made.lasts:
        made = replace(made, seconds=_seconds(chance, made))
    return replace(made, size=_size(chance, made))


def _seconds(chance: random.Random, fault: Fault) -> float:
    spans = [SHORT, LONG]
    # Nobody but the harness could heal the server, a network or a slow road.
    if fault.victim not in OF_SERVER and fault.kind not in ("cut", "slow"):
        spans.append((FOR_EVER, FOR_EVER))
    return round(chance.uniform(*chance.choice(spans)), 2)


def _size(chance: random.Random, fault: Fault) -> float:
    if fault.kind == "clock":
        jump = round(60.0 * chance.choice((2, 20, 60, 300)) * chance.uniform(0.5, 1.0), 1)
        return jump if fault.victim == "forward" else -jump
    if fault.kind == "slow":
        return round(chance.uniform(0.1, 0.6), 2)
    return float(chance.randint(1, 6)) if fault.kind == "order" else 0.0


def _possible(faults: list[Fault]) -> list[Fault]:
    """At most one fault for ever: a run whose both machines are gone has nowhere to go."""
    seen, kept = False, []
    for one in faults:
        kept.append(replace(one, seconds=LONG[0]) if seen and one.never_heals else one)
        seen = seen or one.never_heals
    return kept


def _order(fault: Fault) -> tuple[int, float]:
    return MOMENTS.index(fault.moment), fault.wait
