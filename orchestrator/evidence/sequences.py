"""Always-valid inference: an interval that holds at every number of prompts at once, so that anybody may look
at any time and stop.

Hedged betting confidence sequence for means of bounded values (Waudby-Smith and Ramdas 2024, theorem 3 and eq.
26). Legend: P prompts, C comparisons side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair


@dataclass(frozen=True)
class Look:
    """What was known after so many prompts."""

    prompts: int
    difference: float
    """Mean so far."""
    low: float
    high: float
    """The interval that has held at every look up to this one; never wider than before."""
    p: float
    """Always-valid p of no difference: 1 / largest wealth of betting against it; never larger than before."""


@dataclass(frozen=True)
class Sequence:
    """The looks, and what the newest one permits."""

    looks: tuple[Look, ...]
    level: float
    margin: float
    decision: Literal["better", "worse", "no difference", "go on"]
    """"better" or "worse" once the interval has left 0, "no difference" once it lies inside the margin, else
    "go on"."""
    stopped_at: int | None
    """Prompts at which the decision first held, of those that were looked at."""

    @property
    def newest(self) -> Look:
        """The last look."""
        return self.looks[-1]


def confidence_sequence(
    pair: Pair,
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
    margin: float | None = None,
    looks: int = 50,
) -> Sequence:
    """The sequence over the pair's prompts in their order, which must be a random one.

    `bounds` are the least and greatest score that there can be. ValueError where a score lies outside of them;
    name the true bounds then. `looks`: how many points of the path are given, evenly spaced and with the last
    one; validity does not depend on it.
    """
    raise NotImplementedError
