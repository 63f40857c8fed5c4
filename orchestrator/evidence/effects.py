"""Effect sizes of a pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair
    from orchestrator.evidence.intervals import Interval


@dataclass(frozen=True)
class Effect:
    """How large a difference is, beside its own spread."""

    dz: float | None
    """Cohen's d_z: mean of the prompts' differences over their standard deviation (Cohen 1988, eq. 2.5.7;
    Lakens 2013, eq. 6); None where no spread is."""
    size: str
    """"negligible", "small", "medium" or "large" by Cohen's bounds 0.2, 0.5 and 0.8; "none" where nothing
    differs."""
    risk_difference: float | None
    """Share solved by the candidate minus share solved by the baseline; None unless scores are 0 or 1."""
    odds_ratio: float | None
    """Odds of the discordant prompts: solved by the candidate alone to solved by the baseline alone
    (conditional maximum likelihood); None unless each prompt has one answer a side, or where the baseline
    alone solved none."""
    odds_interval: Interval | None
    """Exact, from Clopper and Pearson's interval of the discordant share; a missing upper end is infinite and
    given as None with `odds_ratio`."""


def effect(pair: Pair, *, level: float = 0.95) -> Effect:
    """The effect sizes that the pair has."""
    raise NotImplementedError
