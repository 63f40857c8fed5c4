"""How points lie in bytes: chunks as they came, blocks of one series, and what is picked of each block.

A chunk holds the metrics lines of one push, all names together. A block holds up to `BLOCK` points of one
series and attempt in the order of their journal, column by column, and beside them the points that stand
for each `GRAIN` of them: first, last, lowest and highest, first and last NaN, and those on both sides of the
largest leap of steps and of time. Little-endian everywhere.

Shapes: L lines, P points of a chunk; N points of a block or curve; B buckets.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 8192
"""Points in a full block."""
GRAIN_BITS = 9
GRAIN = 1 << GRAIN_BITS
"""Points that one group of picks stands for."""

LINE = np.dtype([("seq", "<i8"), ("step", "<i8"), ("time", "<f8"), ("count", "<u4")])
VALUE = np.dtype([("series", "<i8"), ("value", "<f8")])
POINT = np.dtype([("seq", "<i8"), ("step", "<i8"), ("time", "<f8"), ("value", "<f8")])
PICK = np.dtype([("place", "<u4"), ("step", "<i8"), ("time", "<f8"), ("value", "<f8")])
"""`place` counts from the block's first point."""

STRIDE, SHORT, WIDE = range(3)
"""How whole numbers lie in a column: one stride, differences of 16 bits, or as they are."""
HEAD = struct.Struct("<Bqq")


def chunk_pack(lines: NDArray[Any], values: NDArray[Any]) -> bytes:
    """The bytes of a chunk: L lines of dtype LINE, then P values of dtype VALUE in the order of the lines."""
    return lines.tobytes() + values.tobytes()


def chunk_unpack(
    data: bytes, lines: int, series: NDArray[Any] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The series ids (P,) and points (P,) of a chunk; only those of the sorted ids `series` when given."""
    heads = np.frombuffer(data, LINE, lines)
    values = np.frombuffer(data, VALUE, offset=lines * LINE.itemsize)
    line = np.repeat(np.arange(lines), heads["count"])
    if series is not None:
        wanted = np.isin(values["series"], series)
        values, line = values[wanted], line[wanted]
    points = np.empty(len(values), POINT)
    for name in ("seq", "step", "time"):
        points[name] = heads[name][line]
    points["value"] = values["value"]
    return values["series"], points


def integers_pack(numbers: NDArray[Any]) -> bytes:
    """A column of whole numbers; evenly spaced ones take 17 bytes in all, whatever their count."""
    first = int(numbers[0])
    # In unsigned arithmetic a difference that overflows wraps round, and is seen to be wide.
    apart = np.diff(numbers.astype(np.uint64))
    if not len(apart) or (apart == apart[0]).all():
        stride = int(apart[:1].astype(np.int64).sum())
        return HEAD.pack(STRIDE, first, stride)
    if (apart < 1 << 16).all():
        return HEAD.pack(SHORT, first, 0) + apart.astype("<u2").tobytes()
    return HEAD.pack(WIDE, first, 0) + numbers.astype("<i8").tobytes()


def integers_unpack(data: bytes, count: int) -> NDArray[np.int64]:
    """The `count` numbers of a column."""
    kind, first, stride = HEAD.unpack_from(data)
    if kind == STRIDE:
        return (np.arange(count, dtype=np.uint64) * np.uint64(stride % 2**64)).astype(
            np.int64
        ) + first
    if kind == SHORT:
        apart = np.frombuffer(data, "<u2", count - 1, HEAD.size)
        return np.concatenate([[first], first + np.cumsum(apart, dtype=np.int64)])
    return np.frombuffer(data, "<i8", count, HEAD.size).astype(np.int64)


def picks_make(points: NDArray[Any], start: int) -> NDArray[Any]:
    """What stands for a block (N,) whose first point is its attempt's `start`-th: dtype PICK, in order."""
    starts = bucket_starts((start + np.arange(len(points))) >> GRAIN_BITS)
    chosen = np.zeros(len(points), bool)
    chosen[picked(points["value"], starts)] = True
    for axis in ("step", "time"):
        before, _ = leaps(np.diff(points[axis].astype(float)), starts)
        chosen[before] = chosen[before + 1] = True
    places = np.flatnonzero(chosen)
    picks = np.empty(len(places), PICK)
    picks["place"] = places
    for name in ("step", "time", "value"):
        picks[name] = points[name][places]
    return picks


def bucket_starts(bucket: NDArray[Any]) -> NDArray[np.intp]:
    """Where each bucket begins (B,) in numbers (N,) of which equal ones lie together; N is at least 1."""
    return np.flatnonzero(np.append(True, bucket[1:] != bucket[:-1]))


def picked(values: NDArray[Any], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Places of the first, last, lowest and highest value, and of the first and last NaN, of each bucket.

    Of equal extremes the first one is taken. Rising, and none twice: picking again from what was picked
    in parts of a bucket gives what the whole bucket gives.
    """
    bucket = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(values))))
    # fmin and fmax pass over NaN; a bucket of NaN alone stays NaN.
    low = np.fmin.reduceat(values, starts)[bucket]
    high = np.fmax.reduceat(values, starts)[bucket]
    chosen = np.zeros(len(values), dtype=bool)
    missing = np.isnan(values)
    any_missing = bool(missing.any())
    if any_missing:
        for kind in (missing, ~missing):
            _ends_choose(chosen, kind, bucket)
    else:
        chosen[starts] = True
        chosen[np.append(starts[1:], len(values)) - 1] = True
    for extreme in (low, high):
        places = np.flatnonzero(values == extreme)
        held = bucket[places]
        chosen[places[np.append(True, held[1:] != held[:-1])] if len(places) else places] = True
    return np.flatnonzero(chosen)


def leaps(
    ahead: NDArray[Any], starts: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The place before the largest distance between neighbours within each bucket, and that distance.

    `ahead` (N - 1,) holds the distance of each place to the next one, -inf where it is not known; of equal
    distances the first one counts. Buckets without a known distance are left out.
    """
    within = np.append(ahead, -np.inf)
    within[starts[1:] - 1] = -np.inf
    largest = np.maximum.reduceat(within, starts)
    bucket = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(within))))
    places = np.flatnonzero((within == largest[bucket]) & (within > -np.inf))
    held = bucket[places]
    places = places[np.append(True, held[1:] != held[:-1])] if len(places) else places
    return places, within[places]


def _ends_choose(chosen: NDArray[Any], kind: NDArray[Any], bucket: NDArray[Any]) -> None:
    """Choose the first and the last value of a kind in each bucket that has one."""
    places = np.flatnonzero(kind)
    if not len(places):
        return
    held = bucket[places]
    differs = held[1:] != held[:-1]
    chosen[places[np.append(True, differs)]] = True
    chosen[places[np.append(differs, True)]] = True
