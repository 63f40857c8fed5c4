"""Findings: everything about one pair or about several at once, with p-values corrected over all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Arms, LeftOut, Pair
    from orchestrator.evidence.corrections import Correction
    from orchestrator.evidence.differences import Difference
    from orchestrator.evidence.effects import Effect
    from orchestrator.evidence.power import Power
    from orchestrator.evidence.sign_flips import SignFlip
    from orchestrator.evidence.tables import McNemar, Table
    from orchestrator.evidence.verdicts import Verdict


@dataclass(frozen=True)
class Finding:
    """One pair: candidate against baseline."""

    candidate: str
    baseline: str
    difference: Difference
    effect: Effect
    power: Power
    table: Table | None
    """None unless each prompt has one answer a side that is right or wrong."""
    mcnemar: McNemar | None
    permutation: SignFlip
    test: str
    """The test that `p` is of: "mid-p McNemar", "paired permutation" or "t over training seeds"."""
    p: float
    p_corrected: float
    correction: str
    comparisons: int
    left_out: LeftOut
    verdict: Verdict


def findings(
    arms: Arms,
    *,
    baseline: str | None = None,
    pairs: tuple[tuple[str, str], ...] | None = None,
    correction: Correction = "holm",
    margin: float | None = None,
    alpha: float = 0.05,
    seed: int = 0,
) -> tuple[Finding, ...]:
    """Every arm against `baseline`, or the (candidate, baseline) `pairs`, or all pairs (the later arm as
    candidate); one correction over all of them.

    ValueError for fewer than two arms or for both `baseline` and `pairs`.
    """
    raise NotImplementedError


def finding(
    pair: Pair, *, margin: float | None = None, alpha: float = 0.05, seed: int = 0
) -> Finding:
    """A single comparison: nothing to correct."""
    raise NotImplementedError
