"""What the database holds of a run's points: the only place here that knows how they are laid out."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psycopg

from orchestrator import blocks, postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.chaos.stack import Stack

Points = dict[tuple[int, int, str], tuple[int, float]]


@dataclass(frozen=True)
class Stored:
    """Cursors and points of a run at one moment."""

    cursors: dict[tuple[int, str], int]
    """By attempt and source."""
    points: Points
    """By attempt, seq and name: step and value."""


def stored(stack: Stack, run_id: str) -> Stored:
    """Read both in one snapshot; asserts that no point is there twice."""
    for _ in range(60):
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(postgres.url(stack.data)) as connection,
        ):
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            return _read(connection, run_id)
        time.sleep(0.25)
    raise AssertionError("the database does not answer")


def _read(connection: psycopg.Connection, run_id: str) -> Stored:
    streams = connection.execute(
        "SELECT attempt, source, cursor FROM orchestrator_stream WHERE run_id = %s", [run_id]
    ).fetchall()
    rows = [*_in_chunks(connection, run_id), *_in_blocks(connection, run_id)]
    keys = dict(
        connection.execute(
            "SELECT id, key FROM orchestrator_series WHERE run_id = %s", [run_id]
        ).fetchall()
    )
    points = {(attempt, seq, keys[pk]): (step, value) for attempt, pk, seq, step, value in rows}
    assert len(points) == len(rows), f"{len(rows) - len(points)} points of {run_id} are there twice"
    return Stored({(row[0], row[1]): row[2] for row in streams}, points)


Row = tuple[int, int, int, int, float]
"""attempt, series, seq, step, value"""


def _in_chunks(connection: psycopg.Connection, run_id: str) -> Iterator[Row]:
    """Points as they came."""
    chunks = connection.execute(
        "SELECT attempt, lines, data FROM orchestrator_chunk WHERE run_id = %s", [run_id]
    )
    for attempt, lines, data in chunks.fetchall():
        for pk, point in zip(*blocks.chunk_unpack(data, lines), strict=True):
            yield attempt, int(pk), int(point["seq"]), int(point["step"]), float(point["value"])


def _in_blocks(connection: psycopg.Connection, run_id: str) -> Iterator[Row]:
    """Points that were packed."""
    packed = connection.execute(
        "SELECT b.attempt, b.series_id, b.count, b.seqs, b.steps, b.values FROM orchestrator_block b"
        " JOIN orchestrator_series s ON s.id = b.series_id WHERE s.run_id = %s",
        [run_id],
    )
    for attempt, pk, count, seqs, steps, values in packed.fetchall():
        columns = (
            blocks.integers_unpack(seqs, count).tolist(),
            blocks.integers_unpack(steps, count).tolist(),
            np.frombuffer(values, "<f8").tolist(),
        )
        for seq, step, value in zip(*columns, strict=True):
            yield attempt, pk, seq, step, value
