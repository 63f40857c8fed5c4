"""Thin a curve without hiding anything: exact first, last, lowest and highest point of each bucket.

Buckets lie on a grid of powers of two, so a growing curve keeps its picture between refreshes, and
every point that is returned was stored exactly so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

POINTS_PER_BUCKET = 6  # first, last, lowest, highest, first and last NaN


@dataclass(frozen=True)
class Thinned:
    """Points to draw, and the lowest and highest value of the bucket that each one stands for."""

    x: NDArray[Any]
    y: NDArray[Any]
    low: NDArray[Any]
    high: NDArray[Any]
    reduced: bool


def thin(x: NDArray[Any], y: NDArray[Any], most: int) -> Thinned:
    """At most `most` points of the curve; `x` must rise. A curve that fits is returned whole."""
    if len(x) <= most:
        return Thinned(x, y, y, y, reduced=False)
    starts = _bucket_starts(x, max(1, most // POINTS_PER_BUCKET))
    bucket = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(x))))
    # fmin and fmax pass over NaN; a bucket of NaN alone stays NaN.
    low = np.fmin.reduceat(y, starts)[bucket]
    high = np.fmax.reduceat(y, starts)[bucket]
    missing = np.isnan(y)
    picked = np.unique(
        np.concatenate(
            [
                _first(~missing, bucket),
                _last(~missing, bucket),
                _first(y == low, bucket),
                _first(y == high, bucket),
                _first(missing, bucket),
                _last(missing, bucket),
            ]
        )
    )
    return Thinned(x[picked], y[picked], low[picked], high[picked], reduced=True)


def _bucket_starts(x: NDArray[Any], most: int) -> NDArray[Any]:
    """Where each bucket begins, for the narrowest grid of a power of two with at most `most` buckets."""
    span = float(x[-1] - x[0])
    width = 2.0 ** np.ceil(np.log2(span / most)) if span > 0 else 1.0
    while True:
        number = np.floor_divide(x, width)
        starts = np.flatnonzero(np.append(True, number[1:] != number[:-1]))
        if len(starts) <= most:
            return starts
        width *= 2


def _first(chosen: NDArray[Any], bucket: NDArray[Any]) -> NDArray[Any]:
    """The first chosen point of each bucket that has one."""
    places = np.flatnonzero(chosen)
    held = bucket[places]
    return places[np.append(True, held[1:] != held[:-1])] if len(places) else places


def _last(chosen: NDArray[Any], bucket: NDArray[Any]) -> NDArray[Any]:
    """The last chosen point of each bucket that has one."""
    places = np.flatnonzero(chosen)
    held = bucket[places]
    return places[np.append(held[1:] != held[:-1], True)] if len(places) else places
