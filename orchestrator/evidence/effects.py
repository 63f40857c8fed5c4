"""Effect sizes of a pair: how large a difference is beside its own spread, and among the prompts that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy import special

from orchestrator.evidence.intervals import Interval
from orchestrator.evidence.tables import table

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair

SIZES = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"))
"""Below which d_z has which name (Cohen 1988, chapter 2)."""


@dataclass(frozen=True)
class Effect:
    """How large a difference is."""

    dz: float | None
    """Cohen's d_z: mean of the prompts' differences over their standard deviation (Cohen 1988, chapter 2;
    Lakens 2013, eq. 6); None where no spread is."""
    size: str
    """"negligible", "small", "medium" or "large" by Cohen's bounds 0.2, 0.5 and 0.8; "none" where nothing
    differs."""
    risk_difference: float | None
    """Share solved by the candidate minus share solved by the baseline; None unless scores are 0 or 1."""
    odds_ratio: float | None
    """Odds among discordant prompts: solved by the candidate alone to solved by the baseline alone (conditional
    maximum likelihood). None unless each prompt has one answer a side, or where the baseline alone solved
    none."""
    odds_interval: Interval | None
    """Exact, from Clopper and Pearson's interval of the discordant share; None where `odds_ratio`
    is."""


def effect(pair: Pair, *, level: float = 0.95) -> Effect:
    """The effect sizes that the pair has."""
    difference_P = pair.difference_P
    spread = float(difference_P.std(ddof=1)) if difference_P.size > 1 else 0.0
    mean = float(difference_P.mean())
    dz = mean / spread if spread > 0 else None
    if dz is None:
        size = "none" if mean == 0 else "large"
    else:
        size = next((name for bound, name in SIZES if abs(dz) < bound), "large")
    ratio, interval = _odds(pair, level) if pair.paired_answers else (None, None)
    return Effect(dz, size, mean if pair.binary else None, ratio, interval)


def _odds(pair: Pair, level: float) -> tuple[float | None, Interval | None]:
    found = table(pair)
    if not found.baseline_only:
        return None, None
    ratio = found.candidate_only / found.baseline_only
    wins, losses, tail = found.candidate_only, found.baseline_only, (1 - level) / 2
    # Clopper and Pearson's ends of the share are quantiles of beta distributions.
    shares = (
        special.betaincinv(wins, losses + 1, tail) if wins else 0.0,
        special.betaincinv(wins + 1, losses, 1 - tail),
    )
    low, high = (float(end / (1 - end)) for end in shares)
    return ratio, Interval(low, high, level, "exact")
