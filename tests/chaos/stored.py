"""What the database holds of a run's points: `rows_read` alone here knows how they are laid out."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import psycopg

from orchestrator import blocks, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.stack import Stack

Place = tuple[int, int, str]
"""Attempt, seq of the journal line, name."""
Points = dict[Place, tuple[int, float]]
"""Step and value."""


class Row(NamedTuple):
    """One stored point."""

    attempt: int
    seq: int
    key: str
    step: int
    time: float
    value: float


@dataclass(frozen=True)
class Stored:
    """Cursors and points of a run at one moment."""

    cursors: dict[tuple[int, str], int]
    """By attempt and source."""
    points: Points
    times: dict[Place, float]
    """Unix seconds of each point."""


def stored(stack: Stack, run_id: str) -> Stored:
    """Read all of it in one snapshot; asserts that no point is there twice."""
    for _ in range(60):
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(postgres.url(stack.data)) as connection,
        ):
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            streams = connection.execute(
                "SELECT attempt, source, cursor FROM orchestrator_stream WHERE run_id = %s",
                [run_id],
            ).fetchall()
            cursors = {(row[0], row[1]): row[2] for row in streams}
            rows = rows_read(connection, run_id)
            return Stored(cursors, *once(run_id, rows))
        time.sleep(0.25)
    raise AssertionError("the database does not answer")


def rows_read(connection: psycopg.Connection, run_id: str) -> list[Row]:
    """Every point that is stored of a run, as often as it is stored, in any order."""
    keys = dict(
        connection.execute(
            "SELECT id, key FROM orchestrator_series WHERE run_id = %s", [run_id]
        ).fetchall()
    )
    return [*_in_chunks(connection, run_id, keys), *_in_blocks(connection, run_id, keys)]


def _in_chunks(connection: psycopg.Connection, run_id: str, keys: dict[int, str]) -> Iterator[Row]:
    """Points as they came."""
    chunks = connection.execute(
        "SELECT attempt, lines, data FROM orchestrator_chunk WHERE run_id = %s", [run_id]
    )
    for attempt, lines, data in chunks.fetchall():
        for pk, point in zip(*blocks.chunk_unpack(data, lines), strict=True):
            seq, step, moment, value = point.tolist()
            yield Row(attempt, seq, keys[int(pk)], step, moment, value)


def _in_blocks(connection: psycopg.Connection, run_id: str, keys: dict[int, str]) -> Iterator[Row]:
    """Points that were packed."""
    packed = connection.execute(
        "SELECT b.attempt, b.series_id, b.count, b.seqs, b.steps, b.times, b.values"
        " FROM orchestrator_block b JOIN orchestrator_series s ON s.id = b.series_id"
        " WHERE s.run_id = %s",
        [run_id],
    )
    for attempt, pk, count, seqs, steps, times, values in packed.fetchall():
        columns = (
            blocks.integers_unpack(seqs, count).tolist(),
            blocks.integers_unpack(steps, count).tolist(),
            np.frombuffer(times, "<f8").tolist(),
            np.frombuffer(values, "<f8").tolist(),
        )
        for seq, step, moment, value in zip(*columns, strict=True):
            yield Row(attempt, seq, keys[pk], step, moment, value)


def once(run_id: str, rows: list[Row]) -> tuple[Points, dict[Place, float]]:
    """Rows by their place; asserts that no place is there twice."""
    points: Points = {}
    for row in rows:
        place = (row.attempt, row.seq, row.key)
        assert place not in points, f"{place} of {run_id} is there twice"
        points[place] = (row.step, row.value)
    return points, {(row.attempt, row.seq, row.key): row.time for row in rows}
