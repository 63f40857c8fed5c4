"""Read stored points: those still in chunks, and blocks by their heads, picks and columns.

Chunks are read before blocks. The control worker moves points from the first to the second in one
transaction, so nothing is missed, and what is seen twice is dropped by its seq.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator import blocks
from orchestrator.models import Block, Chunk, Run, Series, Stream
from orchestrator.selectors.wire import rows_read

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

HEAD_COLUMNS = {
    "series": "i8",
    "attempt": "i4",
    "start": "i8",
    "count": "i4",
    "first": "i8",
    "last": "i8",
    "step_low": "i8",
    "step_high": "i8",
    "rising": "?",
    "time_low": "f8",
    "time_high": "f8",
    "missing": "i4",
}
HEAD = np.dtype(list(HEAD_COLUMNS.items()))
"""What is known of a block without reading its points."""
INTEGERS = ("seqs", "steps")
ALL_COLUMNS = ("seqs", "steps", "times", "values")

BlockKey = tuple[int, int, int, int]
"""Series, attempt, start and count of a block: what lies under one key never changes."""


class BlocksMoved(Exception):
    """Blocks were packed together between two looks: look again."""


@dataclass
class Stored:
    """What is stored of one series: blocks by their heads (B,), and by attempt what is still in chunks (N,)."""

    heads: NDArray[Any]
    tail: dict[int, NDArray[Any]]


def series_ids(run: Run, keys: Iterable[str]) -> dict[str, int]:
    """The ids of the known ones of these metrics."""
    return dict(Series.objects.filter(run=run, key__in=list(keys)).values_list("key", "pk"))


def stored_read(run: Run, ids: Sequence[int], after: tuple[int, int] = (0, 0)) -> dict[int, Stored]:
    """What is stored of each series; only chunks and blocks that end behind (attempt, seq) `after`."""
    tails = _tails(run, ids, after)
    heads = _heads(ids, after)
    edges = np.searchsorted(heads["series"], np.sort(np.append(ids, 2**62)))
    found = {}
    for place, pk in enumerate(sorted(ids)):
        mine = heads[edges[place] : edges[place + 1]]
        found[pk] = Stored(mine, _unpacked(mine, tails.get(pk, {})))
    return found


def points_stored(
    run: Run, keys: Iterable[str], after: tuple[int, int] = (0, 0)
) -> dict[str, list[tuple[int, NDArray[Any]]]]:
    """Every point behind (attempt, seq) as it was logged, by metric: attempts in order, each with its points."""
    while True:
        try:
            return _points_stored(run, keys, after)
        except BlocksMoved:
            continue


def _points_stored(
    run: Run, keys: Iterable[str], after: tuple[int, int]
) -> dict[str, list[tuple[int, NDArray[Any]]]]:
    ids = series_ids(run, keys)
    tails = _tails(run, list(ids.values()), after)
    packed = Stream.objects.filter(run=run, source="trainer", attempt__gte=after[0])
    behind = any((attempt, seq) > after for attempt, seq in packed.values_list("attempt", "packed"))
    heads = _heads(list(ids.values()), after) if behind else np.empty(0, HEAD)
    raw = columns_read(keys_of(heads), ALL_COLUMNS)
    found: dict[str, list[tuple[int, NDArray[Any]]]] = {}
    for key, pk in ids.items():
        mine = heads[heads["series"] == pk]
        tail = _unpacked(mine, tails.get(pk, {}))
        parts: dict[int, list[NDArray[Any]]] = {}
        for block in keys_of(mine):
            parts.setdefault(block[1], []).append(raw[block])
        for attempt, points in tail.items():
            parts.setdefault(attempt, []).append(points)
        for attempt in sorted(parts):
            points = np.concatenate(parts[attempt])
            points = points[points["seq"] > after[1]] if attempt == after[0] else points
            if len(points):
                found.setdefault(key, []).append((attempt, points))
    return found


def keys_of(heads: NDArray[Any]) -> list[BlockKey]:
    """The keys of blocks."""
    return heads[["series", "attempt", "start", "count"]].tolist()


def columns_read(keys: Sequence[BlockKey], columns: Sequence[str]) -> dict[BlockKey, NDArray[Any]]:
    """The points (N,) of blocks, dtype POINT, of which only `columns` are filled."""
    found = {}
    for key, count, fields in _fields_read(keys, columns):
        points = np.zeros(count, blocks.POINT)
        for name, data in zip(columns, fields, strict=True):
            whole = name in INTEGERS
            points[name[:-1]] = (
                blocks.integers_unpack(data, count) if whole else np.frombuffer(data, "<f8")
            )
        found[key] = points
    return found


def pairs_read(
    keys: Sequence[BlockKey],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """The steps and values of blocks, in the order of the keys."""
    found = {key: fields for key, _, fields in _fields_read(keys, ["steps", "values"])}
    for key in keys:
        steps, values = found[key]
        yield blocks.integers_unpack(steps, key[3]), np.frombuffer(values, "<f8")


def picks_read(keys: Sequence[BlockKey]) -> dict[BlockKey, NDArray[Any]]:
    """The picks of blocks, dtype PICK."""
    return {
        key: np.frombuffer(data, blocks.PICK) for key, _, (data,) in _fields_read(keys, ["picks"])
    }


def _fields_read(
    keys: Sequence[BlockKey], columns: Sequence[str]
) -> list[tuple[BlockKey, int, tuple[bytes, ...]]]:
    if not keys:
        return []
    wanted = ", ".join(f'b."{name}"' for name in columns)
    query = (
        f"SELECT b.series_id, b.attempt, b.start, b.count, {wanted} "
        "FROM unnest(%s::bigint[], %s::int[], %s::bigint[], %s::int[]) "
        "AS k (series_id, attempt, start, count) "
        f'JOIN "{Block._meta.db_table}" b USING (series_id, attempt, start, count)'
    )
    rows = rows_read(query, [list(column) for column in zip(*keys, strict=True)])
    if len(rows) < len(keys):
        raise BlocksMoved
    return [(row[:4], row[3], row[4:]) for row in rows]


def _heads(ids: Sequence[int], after: tuple[int, int] = (0, 0)) -> NDArray[Any]:
    """The heads of the blocks with points behind `after`, by series, attempt and start."""
    columns = ", ".join(f'"{Block._meta.get_field(name).column}"' for name in HEAD_COLUMNS)
    rows = rows_read(
        f'SELECT {columns} FROM "{Block._meta.db_table}" '
        "WHERE series_id = ANY(%s::bigint[]) AND (attempt, last) > (%s::int, %s::bigint) "
        "ORDER BY series_id, attempt, start",
        [list(ids), *after],
    )
    return np.array(rows, HEAD) if rows else np.empty(0, HEAD)


def _tails(
    run: Run, ids: Sequence[int], after: tuple[int, int] = (0, 0)
) -> dict[int, dict[int, NDArray[Any]]]:
    """By series and attempt the points in chunks that end behind `after`."""
    rows = rows_read(
        f'SELECT attempt, lines, data FROM "{Chunk._meta.db_table}" '
        "WHERE run_id = %s AND (attempt, last) > (%s::int, %s::bigint) ORDER BY attempt, first",
        [run.pk, *after],
    )
    wanted = np.sort(np.array(ids, np.int64))
    parts: dict[int, list[tuple[NDArray[Any], NDArray[Any]]]] = {}
    for attempt, lines, data in rows:
        parts.setdefault(attempt, []).append(blocks.chunk_unpack(data, lines, wanted))
    found: dict[int, dict[int, NDArray[Any]]] = {}
    for attempt, pieces in parts.items():
        for pk, points in by_series(pieces):
            found.setdefault(pk, {})[attempt] = points
    return found


def by_series(
    pieces: Sequence[tuple[NDArray[Any], NDArray[Any]]],
) -> list[tuple[int, NDArray[Any]]]:
    """The points of chunks, taken apart by series; within a series in the order of the chunks."""
    series = np.concatenate([piece[0] for piece in pieces])
    if not len(series):
        return []
    order = np.argsort(series, kind="stable")
    series = series[order]
    points = np.concatenate([piece[1] for piece in pieces])[order]
    starts = blocks.bucket_starts(series)
    ends = [*starts[1:], len(series)]
    return [
        (int(series[begin]), points[begin:end]) for begin, end in zip(starts, ends, strict=True)
    ]


def _unpacked(heads: NDArray[Any], tail: dict[int, NDArray[Any]]) -> dict[int, NDArray[Any]]:
    """The tail without what lies in blocks by now."""
    found = {}
    for attempt, points in tail.items():
        packed = heads["last"][heads["attempt"] == attempt].max(initial=0)
        behind = points[points["seq"] > packed]
        if len(behind):
            found[attempt] = behind
    return found
