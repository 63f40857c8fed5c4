"""The paired permutation test: under no difference each prompt's difference might as well have the other sign.

Legend: P prompts, C comparisons side by side, R draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.evidence.arms import Pair


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p-values of "the prompts' differences lie symmetrically around 0"."""

    p: float
    """Never above its level: exact, or (b + 1) / (m + 1) of m draws (Phipson and Smyth 2010, eq. 2)."""
    mid_p: float
    """Draws as extreme as what was seen count half; near its level where scores are few-valued."""
    exact: bool
    """Whether all sign patterns were counted."""
    draws: int
    """Patterns counted or drawn."""


def sign_flip(pair: Pair, *, draws: int = 9_999, seed: int = 0) -> SignFlip:
    """Test of the prompts' mean differences, exact up to 16 prompts that differ. ValueError for fewer than 99
    draws."""
    raise NotImplementedError
