"""What is kept how long, and the space of what is gone: the control worker's work, once a minute."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from orchestrator.models import (
    ENDED,
    Block,
    Chunk,
    Event,
    IdempotencyKey,
    LoginLink,
    LogLine,
    Run,
    Sample,
    StepSpans,
)

if TYPE_CHECKING:
    from django.db.models import Model

KEYS_KEPT = timedelta(days=7)
"""How long a repeated request is recognised."""
RUNS_AT_ONCE = 20
DEAD_ROWS = 1000
"""From so many deleted rows on a table is vacuumed: what was deleted with a run is to be free soon."""
LARGE: tuple[type[Model], ...] = (Block, Chunk, Sample, LogLine, StepSpans)


def retain() -> int:
    """Delete what has been kept long enough; how many runs lost something.

    Log lines and samples go `ANNEAL_LOG_DAYS` and `ANNEAL_SAMPLE_DAYS` after their run has ended; 0 keeps
    them. Points, events and checkpoints stay until their run is deleted.
    """
    now = timezone.now()
    IdempotencyKey.objects.filter(created__lt=now - KEYS_KEPT).delete()
    LoginLink.objects.filter(expires__lt=now - KEYS_KEPT).delete()
    lost = _drop(LogLine, settings.ANNEAL_LOG_DAYS, "log line")
    return lost + _drop(Sample, settings.ANNEAL_SAMPLE_DAYS, "sample")


def retention_words(count: int, noun: str, days: float) -> str:
    """What the run's events say: "1 sample was deleted, 30 days after the run had ended"."""
    gone = f"{count:,} {noun} was" if count == 1 else f"{count:,} {noun}s were"
    return f"{gone} deleted, {days:g} {'day' if days == 1 else 'days'} after the run had ended"


def _drop(kind: type[Model], days: float, noun: str) -> int:
    if not days:
        return 0
    ended = Run.objects.filter(state__in=ENDED, ended__lt=timezone.now() - timedelta(days=days))
    rows: Any = kind._default_manager
    holding = ended.filter(Exists(rows.filter(run=OuterRef("pk"))))
    runs = list(holding.order_by("ended")[:RUNS_AT_ONCE])
    for run in runs:
        with transaction.atomic():
            count, _ = rows.filter(run=run).delete()
            message = retention_words(count, noun, days)
            Event.objects.create(
                run=run,
                attempt=run.attempt,
                source="server",
                time=timezone.now(),
                type="alert",
                data={"level": "info", "code": "retention", "message": message},
            )
    return len(runs)


def reclaim() -> list[str]:
    """Vacuum tables that lost many rows, so that their space is used again; the names of those tables.

    Not to be called within a transaction.
    """
    tables = [kind._meta.db_table for kind in LARGE]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_stat_user_tables WHERE relname = ANY(%s) AND n_dead_tup >= %s "
            "ORDER BY relname",
            [tables, DEAD_ROWS],
        )
        found = [str(name) for (name,) in cursor.fetchall()]
        for name in found:
            cursor.execute(f'VACUUM (ANALYZE, SKIP_LOCKED) "{name}"')
    return found
