"""Thin a curve without hiding anything: exact first, last, lowest and highest point of each bucket.

A bucket is a power of two of neighbouring points, counted from the beginning of the curve: a growing curve
keeps its picture between refreshes, and every point that is returned was stored exactly so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator import blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS_PER_BUCKET = 6  # first, last, lowest, highest, first and last NaN


@dataclass(frozen=True)
class Thinned:
    """Places of the points to draw, and the lowest and highest value of the bucket that each stands for."""

    places: NDArray[np.intp]
    low: NDArray[Any]
    high: NDArray[Any]


def spans_of(numbers: NDArray[Any]) -> NDArray[np.int64]:
    """Rising numbers (N,) as the first and last (S, 2) of each unbroken span."""
    if not len(numbers):
        return np.empty((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(numbers) != 1)
    return np.stack(
        [numbers[np.append(0, breaks + 1)], numbers[np.append(breaks, len(numbers) - 1)]], axis=1
    ).astype(np.int64)


def bits_for(spans: NDArray[np.int64], most: int) -> int:
    """log2 of the smallest bucket with which rising spans (S, 2) of numbers give at most `most` points."""
    buckets = max(1, most // POINTS_PER_BUCKET)
    for bits in range(63):
        first, last = (spans >> bits).T
        shared = int((first[1:] == last[:-1]).sum())
        if int((last - first + 1).sum()) - shared <= buckets:
            return bits
    return 63


def thin(numbers: NDArray[Any], values: NDArray[Any], bits: int) -> Thinned:
    """Thin points with rising numbers (N,) and their values (N,) to buckets of 2**bits numbers.

    Points that stand for parts of a bucket (`blocks.picks_make`) serve as well as all of its points.
    """
    starts = blocks.bucket_starts(numbers >> bits)
    places = blocks.picked(values, starts)
    bucket = np.searchsorted(starts, places, side="right") - 1
    return Thinned(
        places,
        np.fmin.reduceat(values, starts)[bucket],
        np.fmax.reduceat(values, starts)[bucket],
    )
