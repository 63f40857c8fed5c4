"""The paired permutation test: under no difference each prompt's difference might as well have the other sign.

Source: Fisher 1935, "The design of experiments"; p of m drawn patterns is (b + 1) / (m + 1), b as extreme as what
was seen (Phipson and Smyth 2010, "Permutation p-values should never be zero").

Legend: P prompts, C comparisons side by side, R sign patterns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from orchestrator.evidence.arms import Pair

ALL = 16
"""Prompts that differ up to which all sign patterns are counted: 65,536."""
CELLS = 4_000_000
"""Signs of one batch: 32 MB."""
TIE = 1e-9
"""Share of the largest sum there can be within which two sums are the same: rounding is far below it."""


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p-values of "the prompts' differences lie symmetrically around 0"."""

    p: float
    """Never above its level: exact, or (b + 1) / (m + 1) of m draws."""
    mid_p: float
    """Patterns as extreme as what was seen count half; near its level where scores are few-valued."""
    exact: bool
    """Whether all sign patterns were counted."""
    draws: int
    """Patterns counted or drawn."""


def sign_flip(pair: Pair, *, draws: int = 9_999, seed: int = 0) -> SignFlip:
    """Test of the prompts' mean differences, exact up to 16 prompts that differ.

    ValueError for fewer than 99 draws.
    """
    if draws < 99:
        raise ValueError(f"draws: {draws} are too few for a p-value; give 99 or more")
    difference_P = pair.difference_P
    # A prompt without a difference has the same sum under either sign.
    differing_P1 = difference_P[difference_P != 0][:, None]
    exact = differing_P1.size <= ALL
    patterns = _all(differing_P1.size) if exact else _drawn(differing_P1.size, draws, seed)
    beyond_C, same_C, count = _counts(differing_P1, patterns)
    seen = 0 if exact else 1
    p = (beyond_C[0] + same_C[0] + seen) / (count + seen)
    mid_p = (beyond_C[0] + (same_C[0] + seen) / 2) / (count + seen)
    return SignFlip(float(p), float(mid_p), exact, count)


def drawn_ps(
    difference_PC: NDArray[np.float64], *, draws: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(C,) p and mid-p of many comparisons of P prompts by the same drawn patterns."""
    patterns = _drawn(difference_PC.shape[0], draws, seed)
    beyond_C, same_C, count = _counts(difference_PC, patterns)
    return (beyond_C + same_C + 1) / (count + 1), (beyond_C + (same_C + 1) / 2) / (count + 1)


def _counts(
    difference_PC: NDArray[np.float64], patterns: Iterator[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """(C,) patterns with a sum further from 0 than what was seen, with the same sum, and how many there were."""
    seen_C = np.abs(difference_PC.sum(axis=0))
    tie_C = TIE * np.abs(difference_PC).sum(axis=0)
    beyond_C, same_C, count = np.zeros_like(seen_C), np.zeros_like(seen_C), 0
    for signs_RP in patterns:
        sums_RC = np.abs(signs_RP @ difference_PC)
        beyond_C += (sums_RC > seen_C + tie_C).sum(axis=0)
        same_C += (np.abs(sums_RC - seen_C) <= tie_C).sum(axis=0)
        count += len(signs_RP)
    return beyond_C, same_C, count


def _all(prompts: int) -> Iterator[NDArray[np.float64]]:
    """Every pattern of signs, in one batch."""
    bits = (np.arange(2**prompts)[:, None] >> np.arange(prompts)) & 1
    yield np.asarray(1.0 - 2.0 * bits, dtype=np.float64)


def _drawn(prompts: int, draws: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Batches of patterns (r, P), r adding up to `draws`."""
    rng = np.random.default_rng(seed)
    batch = max(1, CELLS // max(1, prompts))
    for start in range(0, draws, batch):
        flipped = rng.integers(0, 2, (min(batch, draws - start), prompts))
        yield np.asarray(1.0 - 2.0 * flipped, dtype=np.float64)
