"""Duels: what a judge model said of two answers to one prompt, in both orders and several times.

One verdict a duel, sides taken out: within an order the verdict given most often counts (self-consistency, arXiv
2203.11171); of two orders an answer wins that wins in both, everything else is a tie (arXiv 2306.05685, 3.4). An
order without a verdict in more than half of its times fails the duel, which then has no part in any rate: half of
a swap would bring back the liking for a side that the swap takes out.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np

from orchestrator.evidence.arms import LeftOut, Pair
from orchestrator.evidence.findings import Finding, pair_findings
from orchestrator.evidence.intervals import Interval, mean_interval
from orchestrator.evidence.length_control import FEW, LengthControlled, length_controlled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Said = Literal["candidate", "baseline", "tie", "both bad", ""]
"""A verdict without sides; "" where there is none."""
VALUES = {"candidate": 1.0, "baseline": 0.0, "tie": 0.5, "both bad": 0.5}
NOT_YET = "not judged yet"


@dataclass(frozen=True)
class Duel:
    """Two answers to one prompt, and all that a judge said of them."""

    prompt: str
    sample: int
    candidate: str
    """Names of the arms."""
    baseline: str
    said: Mapping[tuple[bool, int], Said] = field(default_factory=dict)
    """By (the candidate was shown first, which time it was asked in this order)."""
    lengths: tuple[float, float] = (float("nan"), float("nan"))
    """Of the candidate's and the baseline's answer, in any one unit; NaN where unknown."""
    identical: bool = False
    """Equal to the letter: a tie that nobody is asked about."""
    fault: str = ""
    """Why it failed, where it did."""

    def value(self, *, swap: bool, repeats: int) -> float | None:
        """1 where the candidate won, 0 where the baseline did, 0.5 for a tie; None while there is no verdict."""
        if self.identical:
            return VALUES["tie"]
        orders = [self._order(first, repeats) for first in ((False, True) if swap else (False,))]
        found = [value for value in orders if value is not None]
        if len(found) < len(orders):
            return None
        return found[0] if len(set(found)) == 1 else VALUES["tie"]

    def _order(self, first: bool, repeats: int) -> float | None:
        """What was said most often in one order; a tie where two verdicts were said as often."""
        told = [
            VALUES[said] for repeat in range(repeats) if (said := self.said.get((first, repeat)))
        ]
        if 2 * len(told) <= repeats:
            return None
        (most, count), *others = Counter(told).most_common()
        return VALUES["tie"] if any(other == count for _, other in others) else most


@dataclass(frozen=True)
class Share:
    """A share, each prompt counting as much as any other."""

    share: float
    interval: Interval
    count: int
    """Of how many."""


@dataclass(frozen=True)
class DuelFinding:
    """Two arms before one judge. `finding` takes a win for 1, a tie for 0.5: its means are win rates."""

    finding: Finding
    win: Share
    tie: Share
    loss: Share
    win_rate: Share
    """A tie counts half."""
    counts: dict[str, int]
    """win, tie, loss; of the ties both_bad (in every order) and identical."""
    lengths: LengthControlled | None
    """None for fewer than 10 duels with lengths."""


def duel_findings(
    duels: Sequence[Duel], *, swap: bool, repeats: int, resamples: int = 4_000
) -> tuple[DuelFinding, ...]:
    """Of every two arms with verdicts on two prompts or more, in the order in which they come; p corrected by
    Holm over all of them."""
    by_arms: dict[tuple[str, str], list[Duel]] = {}
    for duel in duels:
        by_arms.setdefault((duel.candidate, duel.baseline), []).append(duel)
    asked = [_Asked(some, swap, repeats) for some in by_arms.values()]
    asked = [one for one in asked if len(one.prompts) > 1]
    found = pair_findings([one.pair() for one in asked], resamples=resamples) if asked else ()
    return tuple(one.finding(finding, resamples) for one, finding in zip(asked, found, strict=True))


def order_effect(duels: Sequence[Duel]) -> tuple[Share | None, Share | None]:
    """How often the order decided: of duels seen both ways (each time it was asked counts), the share where the
    same side won both times; and of verdicts for a side, the share that went to the answer shown first.

    None where nothing was seen both ways, or no verdict went to a side.
    """
    decided: list[tuple[str, float]] = []
    first: list[tuple[str, float]] = []
    for duel in duels:
        for (candidate_first, repeat), said in duel.said.items():
            if said in ("candidate", "baseline"):
                first.append((duel.prompt, float((said == "candidate") == candidate_first)))
            other = duel.said.get((False, repeat))
            if candidate_first and said and other:
                sides = {said, other} == {"candidate", "baseline"}
                decided.append((duel.prompt, float(sides)))
    return _share(decided), _share(first)


def self_consistency(duels: Sequence[Duel]) -> Share | None:
    """How often two verdicts on the same answers in the same order agree; None where nothing was asked twice."""
    found: list[tuple[str, float]] = []
    for duel in duels:
        for first in (False, True):
            told = [said for (way, _), said in duel.said.items() if way == first and said]
            found += [(duel.prompt, float(one == two)) for one, two in combinations(told, 2)]
    return _share(found)


def _share(found: Sequence[tuple[str, float]], resamples: int = 2_000) -> Share | None:
    """The mean over prompts of their means, from (prompt, value)."""
    if not found:
        return None
    of_prompt: dict[str, list[float]] = {}
    for prompt, value in found:
        of_prompt.setdefault(prompt, []).append(value)
    values_P = np.array([np.mean(values) for values in of_prompt.values()])
    interval = mean_interval(values_P, bounds=(0.0, 1.0), level=0.95, resamples=resamples, seed=0)
    return Share(float(values_P.mean()), interval, len(found))


class _Asked:
    """The duels of two arms."""

    def __init__(self, duels: Sequence[Duel], swap: bool, repeats: int) -> None:
        values = [duel.value(swap=swap, repeats=repeats) for duel in duels]
        self.told = [
            (duel, value) for duel, value in zip(duels, values, strict=True) if value is not None
        ]
        self.failed = [duel for duel, value in zip(duels, values, strict=True) if value is None]
        self.prompts = list(dict.fromkeys(duel.prompt for duel, _ in self.told))

    def pair(self) -> Pair:
        """Wins as scores: 1 and 0, a tie half to each."""
        samples = 1 + max(duel.sample for duel, _ in self.told)
        place = {prompt: at for at, prompt in enumerate(self.prompts)}
        wins_SPK = np.full((1, len(self.prompts), samples), np.nan)
        for duel, value in self.told:
            wins_SPK[0, place[duel.prompt], duel.sample] = value
        why = Counter(duel.fault or NOT_YET for duel in self.failed)
        gone = len({duel.prompt for duel in self.failed} - place.keys())
        left_out = LeftOut(gone, why.total(), dict(why.most_common()))
        names = self.told[0][0]
        return Pair(
            names.candidate, names.baseline, tuple(self.prompts), wins_SPK, 1 - wins_SPK, left_out
        )

    def finding(self, found: Finding, resamples: int) -> DuelFinding:
        counts = {
            "win": sum(value == 1 for _, value in self.told),
            "tie": sum(value == 0.5 for _, value in self.told),
            "loss": sum(value == 0 for _, value in self.told),
            "both_bad": sum(
                set(duel.said.values()) == {"both bad"} for duel, value in self.told if value == 0.5
            ),
            "identical": sum(duel.identical for duel, _ in self.told),
        }
        return DuelFinding(
            finding=found,
            win=self._share(1.0, resamples),
            tie=self._share(0.5, resamples),
            loss=self._share(0.0, resamples),
            win_rate=self._share(None, resamples),
            counts=counts,
            lengths=self._lengths(),
        )

    def _share(self, outcome: float | None, resamples: int) -> Share:
        """Of one outcome, or the win rate."""
        values = [
            (duel.prompt, value if outcome is None else float(value == outcome))
            for duel, value in self.told
        ]
        found = _share(values, resamples)
        assert found is not None, "two prompts at least have a verdict"
        return found

    def _lengths(self) -> LengthControlled | None:
        known = [(duel, value) for duel, value in self.told if not np.isnan(duel.lengths).any()]
        if len(known) < FEW:
            return None
        return length_controlled(
            [value for _, value in known],
            [duel.lengths[0] for duel, _ in known],
            [duel.lengths[1] for duel, _ in known],
            prompts=[duel.prompt for duel, _ in known],
            resamples=200,
        )
