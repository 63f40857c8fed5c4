"""Which checkpoints a retention rule removes, and why the others stay. Pure: facts in, verdicts out.

The same function decides in the simulator and when the rule is applied. Within a run the newest, the best and
every so many steps stay; whatever is protected, needed, has descendants or is younger than the rule's age stays
beside them and takes nobody's place. So a rule that was applied finds nothing more to remove.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.metrics import lower_is_better

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DAY = 86_400.0
NAMED_MOST = 3


class KeepRule(BaseModel):
    """What of each run stays. 0 switches a part off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keep_last: int = Field(2, ge=0, le=100_000)
    """The newest so many of each run stay. Unit: checkpoints."""
    keep_best: int = Field(1, ge=0, le=100_000)
    """The best so many of each run stay, by `metric`. Unit: checkpoints."""
    metric: str = Field("", max_length=200)
    """By which the best are told; empty: the metric that decides for each run."""
    keep_every: int = Field(0, ge=0, le=10**12)
    """Those at multiples of so many steps stay. Unit: steps."""
    older_than_days: float = Field(0, ge=0, le=36_500, allow_inf_nan=False)
    """Only what is older goes. Unit: days."""

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not (self.keep_last or self.keep_best or self.keep_every or self.older_than_days):
            raise ValueError(
                "keep_last, keep_best, keep_every and older_than_days are all 0: the rule would keep nothing "
                "of any run; set at least one of them"
            )
        return self

    @property
    def words(self) -> str:
        """The rule in a sentence's worth of words."""
        parts = []
        if self.keep_last:
            parts.append(f"the newest {self.keep_last}")
        if self.keep_best:
            parts.append(
                f"the best {self.keep_best} by {self.metric or 'what decides for its run'}"
            )
        if self.keep_every:
            parts.append(f"every {self.keep_every} steps")
        if self.older_than_days:
            parts.append(f"what is younger than {_days(self.older_than_days)}")
        return "of each run keep " + ", ".join(parts)


@dataclass(frozen=True)
class Kept:
    """A checkpoint whose files are there."""

    id: str
    run: str
    attempt: int
    step: int
    created: float
    """Unix time, seconds."""
    bytes: int
    """What its files take up on every disk together."""
    value: float | None
    """Of the metric that tells the best; None where nothing was measured."""
    metric: str
    protection: str = ""
    """`pinned`, `approved`, or ""."""
    needed: tuple[str, ...] = ()
    """Why a run that has not ended needs it, in words."""
    children: tuple[str, ...] = ()
    """Names of what was made from it."""


@dataclass(frozen=True)
class Verdict:
    """What becomes of one checkpoint."""

    kept: Kept
    why: tuple[str, ...] = field(default_factory=tuple)
    """Why it stays; empty: it goes."""

    @property
    def goes(self) -> bool:
        """Whether the rule removes it."""
        return not self.why


@dataclass(frozen=True)
class Decision:
    """What a rule does to a set of checkpoints, by run and step, the newest first."""

    verdicts: tuple[Verdict, ...]

    @property
    def going(self) -> list[Kept]:
        """What goes."""
        return [one.kept for one in self.verdicts if one.goes]

    @property
    def freed(self) -> int:
        """Bytes that go with it."""
        return sum(one.bytes for one in self.going)

    @property
    def stays(self) -> int:
        """Bytes that stay."""
        return sum(one.kept.bytes for one in self.verdicts if not one.goes)

    @property
    def digest(self) -> str:
        """Tells whether two decisions remove the same: SHA-256 of the ids that go, shortened."""
        ids = ",".join(sorted(one.id for one in self.going))
        return hashlib.sha256(ids.encode()).hexdigest()[:16]


def decide(rule: KeepRule, kept: Iterable[Kept], now: float) -> Decision:
    """What the rule removes of these checkpoints, and why each other one stays. `now`: Unix time, seconds."""
    runs: dict[str, list[Kept]] = defaultdict(list)
    for one in kept:
        runs[one.run].append(one)
    verdicts: list[Verdict] = []
    for name in sorted(runs):
        verdicts += _of_run(rule, sorted(runs[name], key=_age, reverse=True), now)
    return Decision(tuple(verdicts))


def _of_run(rule: KeepRule, saved: Sequence[Kept], now: float) -> list[Verdict]:
    """`saved` of one run, the newest first."""
    newest = {one.id for one in saved[: rule.keep_last]}
    best = _ranked(saved)[: rule.keep_best]
    places = {one.id: place for place, one in enumerate(best, 1)}
    found = []
    for one in saved:
        why = _standing(one)
        if one.id in newest:
            why.append(
                "the newest" if rule.keep_last == 1 else f"one of the newest {rule.keep_last}"
            )
        if one.id in places:
            why.append(f"{_nth(places[one.id])} by {one.metric} ({one.value:.4g})")
        if rule.keep_every and one.step % rule.keep_every == 0:
            why.append(f"at a multiple of {rule.keep_every} steps")
        if now - one.created < rule.older_than_days * DAY:
            why.append(f"younger than {_days(rule.older_than_days)}")
        found.append(Verdict(one, tuple(why)))
    return found


def _standing(one: Kept) -> list[str]:
    """Why it stays under any rule."""
    why = [one.protection] if one.protection else []
    why += one.needed
    if one.children:
        more = len(one.children) - NAMED_MOST
        names = ", ".join(one.children[:NAMED_MOST]) + (f" and {more} more" if more > 0 else "")
        why.append(f"{names} came from it")
    return why


def _ranked(saved: Iterable[Kept]) -> list[Kept]:
    """Those that were measured, the best first; of equal ones the newer."""
    measured = [one for one in saved if one.value is not None and math.isfinite(one.value)]
    return sorted(measured, key=lambda one: (_loss(one), -one.step, -one.attempt))


def _loss(one: Kept) -> float:
    assert one.value is not None
    return one.value if lower_is_better(one.metric) else -one.value


def _age(one: Kept) -> tuple[int, int, str]:
    return one.step, one.attempt, one.id


def _days(count: float) -> str:
    return f"{count:g} day{'' if count == 1 else 's'}"


def _nth(place: int) -> str:
    if place == 1:
        return "the best"
    ending = "th" if 10 < place % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending} best"
