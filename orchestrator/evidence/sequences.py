"""Always-valid inference: an interval that holds at every number of prompts at once, so that anybody may look
at any time and stop. See `betting` for how it is made.

Legend: P prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from orchestrator.evidence.betting import betting_bounds, betting_p
from orchestrator.evidence.intervals import level_check
from orchestrator.evidence.power import default_margin

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair

Decision = Literal["better", "worse", "no difference", "go on"]


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
    """Always-valid p of no difference: 2 / largest wealth of betting against it; never larger than before."""


@dataclass(frozen=True)
class Sequence:
    """The looks, and what they permit."""

    looks: tuple[Look, ...]
    level: float
    margin: float
    decision: Decision
    """"better" or "worse" once the interval has left 0, "no difference" once it lies inside the margin, else "go
    on". The first of them stands."""
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
    """The sequence over the pair's prompts in their order, which must not depend on their scores: a drawn one.

    It speaks of these checkpoints, not of recipes. `bounds` are the least and greatest score that there can be.
    `looks`: how many points of the path are given, evenly spaced and with the last one; validity does not
    depend on it. `margin` None: see `power.default_margin`. ValueError where a score lies outside of `bounds`.
    """
    _check(pair, bounds, level, margin, looks)
    margin = default_margin(pair) if margin is None else margin
    span = bounds[1] - bounds[0]
    difference_P = pair.difference_P
    unit_P1 = ((difference_P + span) / (2 * span))[:, None]
    p_P = betting_p(unit_P1, 0.5, alpha=1 - level)[:, 0]
    mean_P = np.cumsum(difference_P) / np.arange(1, difference_P.size + 1)
    path = []
    for prompts in np.unique(np.linspace(1, difference_P.size, looks).round().astype(int)).tolist():
        low_C, high_C = betting_bounds(unit_P1[:prompts], alpha=1 - level)
        low, high = (float(2 * span * end[0] - span) for end in (low_C, high_C))
        path.append(Look(prompts, float(mean_P[prompts - 1]), low, high, float(p_P[prompts - 1])))
    for look in path:
        decision = decide(look, margin)
        if decision != "go on":
            return Sequence(tuple(path), level, margin, decision, look.prompts)
    return Sequence(tuple(path), level, margin, "go on", None)


def decide(look: Look, margin: float) -> Decision:
    """What one look permits: the stopping rule."""
    if look.low > 0:
        return "better"
    if look.high < 0:
        return "worse"
    return "no difference" if -margin < look.low and look.high < margin else "go on"


def _check(
    pair: Pair, bounds: tuple[float, float], level: float, margin: float | None, looks: int
) -> None:
    """ValueError for what cannot be meant."""
    level_check(level, 100)
    if looks < 1:
        raise ValueError(f"looks: {looks}; give 1 or more")
    if margin is not None and not margin > 0:
        raise ValueError(
            f"margin: {margin} is no difference; give the smallest one that matters, above 0"
        )
    least, greatest = bounds
    if not least < greatest:
        raise ValueError(f"bounds: {bounds}; give the least and the greatest score, in this order")
    for scores in (pair.candidate_scores_SPK, pair.baseline_scores_SPK):
        if np.nanmin(scores) < least or np.nanmax(scores) > greatest:
            raise ValueError(
                f"bounds: scores go from {np.nanmin(scores):g} to {np.nanmax(scores):g}, outside of {bounds}; "
                "give the least and greatest score that there can be"
            )
