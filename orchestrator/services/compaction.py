"""Pack chunks into blocks, one attempt at a time: the control worker's work, every two seconds.

A transaction takes chunks by deleting them, adds their points to the blocks of their series and notes how
far the journal is packed. Whoever is killed in the middle has done nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db import connection, transaction
from django.db.models import Count, Sum

from orchestrator import blocks
from orchestrator.models import ENDED, Block, Chunk, Run, Stream
from orchestrator.selectors.points import HEAD_COLUMNS, by_series
from orchestrator.selectors.wire import execute, rows_read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

CHUNKS_DUE = 256
POINTS_DUE = 1 << 16
"""A live attempt is packed from so many chunks or points on: its newest points are read all the time."""
CHUNKS_AT_ONCE = 512
POINTS_AT_ONCE = 1 << 18
"""Of one transaction."""
LOCK = 0x616E6E65  # of PostgreSQL's advisory locks: one packer at a time

HOLD = f'SELECT 1 FROM "{Run._meta.db_table}" WHERE id = %s FOR KEY SHARE'
CHUNK, BLOCK = Chunk._meta.db_table, Block._meta.db_table
TAKE = f"""
WITH due AS (
    SELECT first, sum(points) OVER (ORDER BY first) - points AS before
    FROM "{CHUNK}" WHERE run_id = %s AND attempt = %s ORDER BY first LIMIT {CHUNKS_AT_ONCE}
), taken AS (
    DELETE FROM "{CHUNK}" WHERE run_id = %s AND attempt = %s
    AND first IN (SELECT first FROM due WHERE before < {POINTS_AT_ONCE})
    RETURNING first, last, lines, data
)
SELECT last, lines, data FROM taken ORDER BY first
"""
COLUMNS = ("seqs", "steps", "times", "values")
WRITTEN = [Block._meta.get_field(name).column for name in (*HEAD_COLUMNS, "picks", *COLUMNS)]
INSERT = (
    f'INSERT INTO "{BLOCK}" ({", ".join(f"{chr(34)}{name}{chr(34)}" for name in WRITTEN)}) '
    f"VALUES ({', '.join(['%s'] * len(WRITTEN))})"
)
NEWEST = f"""
SELECT DISTINCT ON (series_id) series_id, start, count
FROM "{BLOCK}" WHERE series_id = ANY(%s::bigint[]) AND attempt = %s ORDER BY series_id, start DESC
"""


@dataclass(frozen=True)
class Packed:
    """What one round did."""

    chunks: int = 0
    points: int = 0

    def __add__(self, other: Packed) -> Packed:
        return Packed(self.chunks + other.chunks, self.points + other.points)


def pack_due(*, most: int = 1 << 19) -> Packed:
    """Pack what is due, up to about `most` points; nothing while another process packs."""
    done = Packed()
    for run_id, attempt, live in _due():
        while done.points < most:
            packed = pack(run_id=run_id, attempt=attempt)
            done += packed
            # Of a live attempt one helping leaves less than what is due, or the next round comes.
            if not packed.chunks or (live and packed.chunks < CHUNKS_AT_ONCE):
                break
    return done


def _due() -> Iterator[tuple[str, int, bool]]:
    counted = Chunk.objects.values("run_id", "attempt").annotate(n=Count("*"), sum=Sum("points"))
    groups = list(counted.values_list("run_id", "attempt", "n", "sum"))
    runs = Run.objects.filter(pk__in={group[0] for group in groups})
    facts = {pk: rest for pk, *rest in runs.values_list("pk", "attempt", "state", "complete")}
    for run_id, attempt, chunks, points in groups:
        if run_id not in facts:
            continue
        newest, state, complete = facts[run_id]
        live = attempt == newest and not (complete or state in ENDED)
        if not live or chunks >= CHUNKS_DUE or points >= POINTS_DUE:
            yield run_id, attempt, live


def pack(*, run_id: str, attempt: int) -> Packed:
    """Pack the oldest chunks of an attempt into blocks, in one transaction."""
    with transaction.atomic():
        if not _lock():
            return Packed()
        # Whoever deletes the run waits until its points have settled; pushes do not.
        if not rows_read(HOLD, [run_id]):
            return Packed()
        rows = rows_read(TAKE, [run_id, attempt] * 2)
        if not rows:
            return Packed()
        taken = by_series([blocks.chunk_unpack(data, lines) for _, lines, data in rows])
        _blocks_write(attempt, taken)
        Stream.objects.filter(run_id=run_id, attempt=attempt, source="trainer").update(
            packed=rows[-1][0]
        )
    return Packed(len(rows), sum(len(points) for _, points in taken))


def _lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _blocks_write(attempt: int, taken: list[tuple[int, NDArray[Any]]]) -> None:
    series = [pk for pk, _ in taken]
    newest = {pk: rest for pk, *rest in rows_read(NEWEST, [series, attempt])}
    rows = []
    for pk, points in taken:
        start = sum(newest.get(pk, (0, 0)))
        start, points = _merged(pk, attempt, start, points)
        for begin in range(0, len(points), blocks.BLOCK):
            rows.append(block_row(pk, attempt, start + begin, points[begin : begin + blocks.BLOCK]))
    for row in rows:
        execute(INSERT, row)


def _merged(
    series: int, attempt: int, start: int, points: NDArray[Any]
) -> tuple[int, NDArray[Any]]:
    """New points joined with the small blocks before them, which are taken out; and where they start.

    A block joins when it is at most as large as what follows it: so each point is written again only
    as often as sizes can double.
    """
    parts, count = [points], len(points)
    while start:
        rows = rows_read(
            f'DELETE FROM "{BLOCK}" WHERE series_id = %s AND attempt = %s AND start + count = %s '
            "AND count < %s AND count <= %s RETURNING count, seqs, steps, times, values",
            [series, attempt, start, blocks.BLOCK, count],
        )
        if not rows:
            break
        [(held, seqs, steps, times, values)] = rows
        older = np.empty(held, blocks.POINT)
        older["seq"] = blocks.integers_unpack(seqs, held)
        older["step"] = blocks.integers_unpack(steps, held)
        older["time"] = np.frombuffer(times, "<f8")
        older["value"] = np.frombuffer(values, "<f8")
        parts.insert(0, older)
        start, count = start - held, count + held
    return start, np.concatenate(parts)


def block_row(series: int, attempt: int, start: int, points: NDArray[Any]) -> list[Any]:
    """The values of a block's row, in the order of `WRITTEN`."""
    step, time = points["step"], points["time"]
    head = {
        "series": series,
        "attempt": attempt,
        "start": start,
        "count": len(points),
        "first": int(points["seq"][0]),
        "last": int(points["seq"][-1]),
        "step_low": int(step.min()),
        "step_high": int(step.max()),
        "rising": bool((step[1:] > step[:-1]).all()),
        "time_low": float(time.min()),
        "time_high": float(time.max()),
        "missing": int(np.isnan(points["value"]).sum()),
    }
    return [
        *(head[name] for name in HEAD_COLUMNS),
        blocks.picks_make(points, start).tobytes(),
        blocks.integers_pack(points["seq"]),
        blocks.integers_pack(step),
        time.astype("<f8").tobytes(),
        points["value"].astype("<f8").tobytes(),
    ]
