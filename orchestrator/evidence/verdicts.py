"""The verdict: from evidence to one of four words, with a sentence that claims no more than the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from orchestrator.evidence.arms import LeftOut
    from orchestrator.evidence.differences import Difference
    from orchestrator.evidence.effects import Effect
    from orchestrator.evidence.power import Power

Word = Literal["better", "worse", "no difference found", "not enough data"]


@dataclass(frozen=True)
class Evidence:
    """All that a verdict is made from."""

    candidate: str
    baseline: str
    difference: Difference
    effect: Effect
    power: Power
    p: float
    """As tested."""
    p_corrected: float
    """Corrected over `comparisons`."""
    test: str
    """What made p: "mid-p McNemar", "paired permutation", ..."""
    correction: str
    comparisons: int
    left_out: LeftOut
    alpha: float = 0.05


@dataclass(frozen=True)
class Verdict:
    """What may be said."""

    word: Word
    sentence: str
    """Names n, difference, interval, p, effect and the prompts still needed."""
    caution: str
    """What limits it: one training seed, items left out; empty where nothing does."""


def verdict(evidence: Evidence) -> Verdict:
    """Four words, in this order.

    "better" or "worse": the corrected p is at most alpha and the interval leaves 0 on that side. "no difference found": neither, and the interval lies inside the margin or
    the prompts would have found the margin with the target power. Otherwise "not enough data".
    """
    raise NotImplementedError
