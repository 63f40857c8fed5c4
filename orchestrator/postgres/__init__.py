"""The embedded PostgreSQL: a real server under DATA, used when no `DATABASE_URL` is set."""

from orchestrator.postgres.cluster import (
    DatabaseError,
    ensure_running,
    postmaster_pid,
    remove,
    stop,
)
from orchestrator.postgres.record import django_database, url
from orchestrator.postgres.visit import running

__all__ = [
    "DatabaseError",
    "django_database",
    "ensure_running",
    "postmaster_pid",
    "remove",
    "running",
    "stop",
    "url",
]
