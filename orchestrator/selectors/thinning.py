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

POINTS_PER_BUCKET = 8
"""First, last, lowest and highest, first and last NaN, and both sides of a gap."""
GAP = 4
"""A leap of so many times the mean distance of the bucket's other neighbours is a gap."""


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


def thin(
    numbers: NDArray[Any],
    values: NDArray[Any],
    bits: int,
    x: NDArray[Any],
    close: NDArray[np.bool_] | None = None,
) -> Thinned:
    """Thin points with rising numbers (N,), their values (N,) and places `x` (N,) to buckets of 2**bits numbers.

    Points that stand for parts of a bucket (`blocks.picks_make`) serve as well as all of its points; `close`
    (N - 1,) then says between which of them no other was left out.
    """
    starts = blocks.bucket_starts(numbers >> bits)
    chosen = np.zeros(len(numbers), bool)
    chosen[blocks.picked(values, starts)] = True
    for place in _gaps(numbers, x.astype(float), starts, close):
        chosen[place : place + 2] = True
    places = np.flatnonzero(chosen)
    bucket = np.searchsorted(starts, places, side="right") - 1
    return Thinned(
        places,
        np.fmin.reduceat(values, starts)[bucket],
        np.fmax.reduceat(values, starts)[bucket],
    )


def _gaps(
    numbers: NDArray[Any],
    x: NDArray[np.float64],
    starts: NDArray[np.intp],
    close: NDArray[np.bool_] | None,
) -> NDArray[np.intp]:
    """The point before the gap of each bucket that has one."""
    ahead = np.diff(x)
    if close is not None:
        ahead[~close] = -np.inf
    places, widths = blocks.leaps(ahead, starts)
    bucket = np.searchsorted(starts, places, side="right") - 1
    first, last = starts[bucket], np.append(starts[1:], len(x))[bucket] - 1
    others = numbers[last] - numbers[first] - 1
    rest = (x[last] - x[first] - widths) / np.maximum(others, 1)
    return places[(others > 0) & (widths > 0) & (widths >= GAP * rest)]
