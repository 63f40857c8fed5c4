"""What happened to a run, and what its trainer printed."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Event, LogLine, Run

PER_PAGE = 100
LINES_MOST = 5000


def events_list(
    *, run: Run, type: str | None = None, page: int = 1, per_page: int = PER_PAGE
) -> tuple[list[Event], int]:
    """One page of a run's events, newest first, and how many there are in all."""
    found = Event.objects.filter(run=run)
    if type:
        found = found.filter(type=type)
    begin = (max(page, 1) - 1) * per_page
    return list(found.order_by("-time", "-id")[begin : begin + per_page]), found.count()


def log_tail(*, run: Run, lines: int = 200, before: int | None = None) -> list[LogLine]:
    """The last lines of a run's log, oldest first; `before` is the id of the first line already shown."""
    found = LogLine.objects.filter(run=run)
    if before is not None:
        found = found.filter(pk__lt=before)
    return list(found.order_by("-id")[: min(max(lines, 1), LINES_MOST)])[::-1]


def log_after(*, run: Run, after: int, lines: int = LINES_MOST) -> list[LogLine]:
    """The newest lines behind the one with id `after`, oldest first."""
    found = LogLine.objects.filter(run=run, pk__gt=after)
    return list(found.order_by("-id")[:lines])[::-1]


def event_shape(event: Event) -> dict[str, Any]:
    """An event as REST gives it."""
    return {
        "id": event.pk,
        "attempt": event.attempt,
        "source": event.source,
        "seq": event.seq,
        "time": event.time,
        "type": event.type,
        "data": event.data,
    }


def log_line_shape(line: LogLine) -> dict[str, Any]:
    """A log line as REST and sockets give it."""
    return {
        "id": line.pk,
        "attempt": line.attempt,
        "seq": line.seq,
        "time": line.time,
        "text": line.text,
    }
