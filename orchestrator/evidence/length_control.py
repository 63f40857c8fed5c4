"""Length-controlled win rate (Dubois et al. 2024, arXiv 2404.04475, eq. 2 and 3): what the win rate were if
both answers had the same length.

Legend: N outcomes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from orchestrator.evidence.intervals import Interval


@dataclass(frozen=True)
class LengthControlled:
    """Win rates of the candidate, 0 to 1; a tie counts half."""

    win_rate: float
    """As judged."""
    win_interval: Interval
    length_controlled: float
    """As predicted for equal lengths."""
    length_controlled_interval: Interval
    length_weight: float
    """Weight of tanh(length difference / its standard deviation) in the logit: above 0, longer answers win
    more."""
    outcomes: int
    prompts: int


def length_controlled(
    wins: ArrayLike,
    candidate_lengths: ArrayLike,
    baseline_lengths: ArrayLike,
    *,
    prompts: Sequence[str] | None = None,
    difficulty: ArrayLike | None = None,
    level: float = 0.95,
    resamples: int = 1_000,
    seed: int = 0,
) -> LengthControlled:
    """From outcomes (N,): 1 the candidate won, 0.5 tie, 0 the baseline won, or the judge's probability;
    lengths in any one unit (N,).

    `prompts` (N,) clusters the bootstrap (None: each outcome is a prompt of its own). `difficulty` (N,) is the
    paper's instruction term, where it is known. NaN outcomes are left out. ValueError for outcomes outside
    0..1, negative lengths, arrays of unequal length or fewer than 10 outcomes.
    """
    raise NotImplementedError
