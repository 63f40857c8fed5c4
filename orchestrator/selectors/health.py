"""Whether everything that runs need works."""

from __future__ import annotations

from datetime import timedelta

from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone

from orchestrator.models import Node, Pulse

CONTROL = "control"
CONTROL_WITHIN = timedelta(seconds=15)
NODE_GRACE = timedelta(seconds=10)
OK = "ok"


def health_read() -> dict[str, str]:
    """Each check: "ok", or a sentence about what is wrong."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        return {"database": OK, "broker": _broker(), "nodes": _nodes()}
    except (DatabaseError, InterfaceError):
        unknown = "unknown while the database does not answer"
        return {"database": "the database does not answer", "broker": unknown, "nodes": unknown}


def _broker() -> str:
    """The control worker notes every message that reached it: seen lately means that they arrive."""
    seen = Pulse.objects.filter(pk=CONTROL).values_list("seen", flat=True).first()
    if seen is None:
        return "the control worker has not spoken yet"
    silence = timezone.now() - seen
    return (
        OK if silence < CONTROL_WITHIN else f"no sign of the control worker for {silence.seconds} s"
    )


def _nodes() -> str:
    now = timezone.now()
    nodes = list(Node.objects.filter(revoked=None, last_seen__isnull=False))
    if not nodes:
        return "no node has joined"
    live = [
        n for n in nodes if n.last_seen + timedelta(seconds=n.expect_next_in) + NODE_GRACE > now
    ]
    return OK if live else f"none of {len(nodes)} nodes has spoken lately"
