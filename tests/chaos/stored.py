"""What the database holds of a run's points: the only place here that knows how they are laid out."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from orchestrator import postgres

if TYPE_CHECKING:
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
    rows = connection.execute(
        "SELECT p.attempt, p.seq, s.key, p.step, p.value FROM orchestrator_point p"
        " JOIN orchestrator_series s ON s.id = p.series_id WHERE s.run_id = %s",
        [run_id],
    ).fetchall()
    points = {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}
    assert len(points) == len(rows), f"{len(rows) - len(points)} points of {run_id} are there twice"
    return Stored({(row[0], row[1]): row[2] for row in streams}, points)
