"""Figures of the server as a whole, from the database: what `/metrics` says beside each process's own counts."""

from __future__ import annotations

from django.db import connection
from django.db.models import Count, Sum
from django.utils import timezone

from orchestrator.models import Chunk, Node, Pulse, Run, State, Stream
from orchestrator.models.contact import node_alive
from trainer.events import JOURNALS

Samples = dict[tuple[str, ...], float]


def server_figures() -> dict[str, Samples]:
    """Values by metric and labels. Raises DatabaseError while the database is away."""
    return {
        "runs": _runs(),
        "queue_depth": {(): float(Run.objects.filter(state=State.QUEUED).count())},
        "nodes": _nodes(),
        "lines_stored": _lines(),
        "pulse_age": _pulses(),
        **_backlog(),
        **_database(),
    }


def _runs() -> Samples:
    counted = Run.objects.values_list("state").annotate(count=Count("pk"))
    return {(state,): 0.0 for state in State.values} | {(s,): float(n) for s, n in counted}


def _nodes() -> Samples:
    found: Samples = {("alive",): 0.0, ("silent",): 0.0, ("invited",): 0.0}
    for node in Node.objects.filter(revoked=None):
        word = "invited" if node.joined is None else "alive" if node_alive(node) else "silent"
        found[(word,)] += 1
    return found


def _lines() -> Samples:
    sums = Stream.objects.values_list("source").annotate(lines=Sum("cursor"))
    return {(source,): 0.0 for source in JOURNALS} | {(s,): float(n) for s, n in sums}


def _pulses() -> Samples:
    now = timezone.now()
    return {
        (name,): max(0.0, (now - seen).total_seconds())
        for name, seen in Pulse.objects.values_list("name", "seen")
    }


def _database() -> dict[str, Samples]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(state, 'other'), count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() GROUP BY 1"
        )
        connections: Samples = {(str(state),): float(count) for state, count in cursor.fetchall()}
        cursor.execute(
            "SELECT pg_database_size(current_database()), current_setting('max_connections')::int"
        )
        size, most = cursor.fetchone()
    return {
        "database_connections": connections,
        "database_connections_most": {(): float(most)},
        "database_bytes": {(): float(size)},
    }


def _backlog() -> dict[str, Samples]:
    waiting = Chunk.objects.aggregate(chunks=Count("*"), points=Sum("points"))
    return {
        "compaction_chunks": {(): float(waiting["chunks"])},
        "compaction_points": {(): float(waiting["points"] or 0)},
    }
