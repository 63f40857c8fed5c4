"""Keep count of what becomes of pushes. Storing never waits for it.

Counts gather in memory and are written at most once a second per journal, after the data they count.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError, connection, transaction

from orchestrator.models import Attempt, StreamHealth
from orchestrator.services import meters
from orchestrator.services.entries import PushError
from trainer.events import JOURNALS, number_decode

if TYPE_CHECKING:
    from collections.abc import Callable

WRITE_EVERY = 1.0  # seconds
LAGS_KEPT = 256
STREAMS_REMEMBERED = 2000
COUNTS = (
    "pushes",
    "repeated_pushes",
    "repeated_lines",
    "early_pushes",
    "early_lines",
    "refused_pushes",
)

log = logging.getLogger(__name__)

Key = tuple[str, int, str]


@dataclass
class Tally:
    """What is counted of one journal and not yet written."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    highest: int = 0
    refused_why: str = ""
    lags: list[float] = field(default_factory=list)


_tallies: dict[Key, Tally] = {}
_written: OrderedDict[Key, float] = OrderedDict()
"""When each journal's counts were last written."""
_lock = threading.Lock()


def pushes_counted(ingest: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap the service that stores a push, so that whatever becomes of each push is counted."""

    @wraps(ingest)
    def counted(
        *, run_id: str, attempt: int, source: str, first: int, events: list[dict[str, Any]]
    ) -> Any:
        words: dict[str, Any] = {"run_id": run_id, "attempt": attempt, "source": source}
        try:
            ack = ingest(**words, first=first, events=events)
        except PushError as error:
            refusal_count(**words, why=str(error))
            raise
        if events:
            push_count(
                **words,
                first=first,
                lines=len(events),
                points=sum(len(e["values"]) for e in events if e["type"] == "metrics"),
                oldest=number_decode(events[0]["time"]),
                cursor=ack.cursor,
                applied=ack.applied,
            )
        return ack

    return counted


def push_count(
    *,
    run_id: str,
    attempt: int,
    source: str,
    first: int,
    lines: int,
    points: int,
    oldest: float,
    cursor: int,
    applied: bool,
) -> None:
    """Count a push of `lines` from `first` that was answered `cursor`; `oldest` is its first line's time."""
    key, last = (run_id, attempt, source), first + lines - 1
    if applied:
        lag = time.time() - oldest
        _count(key, "stored", lines=lines, points=points, highest=last, lag=lag)
    elif first <= cursor:
        # What lies behind the cursor in an overlapping push was not stored, and comes again.
        _count(key, "repeated", lines=min(last, cursor) - first + 1, highest=last)
    else:
        _count(key, "early", lines=lines, highest=last)


def refusal_count(*, run_id: str, attempt: int, source: str, why: str) -> None:
    """Count a push that was refused as faulty."""
    _count((run_id, attempt, source), "refused", why=why)


def _count(
    key: Key,
    outcome: str,
    *,
    lines: int = 0,
    points: int = 0,
    highest: int = 0,
    lag: float | None = None,
    why: str = "",
) -> None:
    if key[2] not in JOURNALS:
        meters.push_counted(outcome, "unknown", lines, points)
        return
    meters.push_counted(outcome, key[2], lines, points)
    with _lock:
        tally = _tallies.setdefault(key, Tally())
        if outcome == "stored":
            tally.counts["pushes"] += 1
        else:
            tally.counts[f"{outcome}_pushes"] += 1
        if outcome in ("repeated", "early"):
            tally.counts[f"{outcome}_lines"] += lines
        tally.highest = max(tally.highest, highest)
        tally.refused_why = why[:300] or tally.refused_why
        if lag is not None:
            tally.lags = [*tally.lags[1 - LAGS_KEPT :], lag]
        due = time.monotonic() - _written.get(key, -WRITE_EVERY) >= WRITE_EVERY
    if due:
        _write(key)


def counts_write(*, run_id: str, attempt: int) -> None:
    """Write what is counted of an attempt now, because it may not push again."""
    for source in JOURNALS:
        if (run_id, attempt, source) in _tallies:
            _write((run_id, attempt, source))


def _write(key: Key) -> None:
    """Add what was counted to the journal's row. A failure costs these counts and nothing else."""
    with _lock:
        tally = _tallies.pop(key, None)
        _written[key] = time.monotonic()
        _written.move_to_end(key)
        while len(_written) > STREAMS_REMEMBERED:
            _written.popitem(last=False)
    if tally is None:
        return
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Nothing depends on these counts: they need not wait for the disk.
            cursor.execute("SET LOCAL synchronous_commit TO off")
            cursor.execute(_UPSERT, _values(key, tally))
    except (DatabaseError, InterfaceError) as error:
        log.warning("counts of %s: %s", key, error)


_TABLE = f'"{StreamHealth._meta.db_table}"'
_COLUMNS = ("attempt", "source", *COUNTS, "highest", "refused_why", "lags")
# A run may be deleted between its last push and this write: then there is no attempt to count for.
_UPSERT = f"""
INSERT INTO {_TABLE} AS h (run_id, {", ".join(_COLUMNS)})
SELECT a.run_id, {", ".join(f"%({name})s" for name in _COLUMNS[:-1])}, %(lags)s::float8[]
FROM "{Attempt._meta.db_table}" a WHERE a.run_id = %(run)s AND a.number = %(attempt)s
ON CONFLICT (run_id, attempt, source) DO UPDATE SET
{", ".join(f"{name} = h.{name} + excluded.{name}" for name in COUNTS)},
highest = greatest(h.highest, excluded.highest),
refused_why = coalesce(nullif(excluded.refused_why, ''), h.refused_why),
lags = (h.lags || excluded.lags)[greatest(1, cardinality(h.lags || excluded.lags) - {LAGS_KEPT - 1}):]
"""


def _values(key: Key, tally: Tally) -> dict[str, Any]:
    run_id, attempt, source = key
    return {
        "run": run_id,
        "attempt": attempt,
        "source": source,
        **tally.counts,
        "highest": tally.highest,
        "refused_why": tally.refused_why.replace("\x00", "\ufffd"),
        "lags": tally.lags,
    }
