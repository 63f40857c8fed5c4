"""How far the journals of a run are stored."""

from __future__ import annotations

from orchestrator.models import Run, Stream
from trainer.events import JOURNALS


def cursors_of(*, run_id: str, attempt: int) -> dict[str, int]:
    """The cursor of each journal of an attempt, 0 where nothing has arrived."""
    stored = Stream.objects.filter(run_id=run_id, attempt=attempt).values_list("source", "cursor")
    return {**dict.fromkeys(JOURNALS, 0), **dict(stored)}


def trainer_cursors(run: Run) -> dict[int, int]:
    """The trainer's cursor of each attempt of a run."""
    streams = Stream.objects.filter(run=run, source="trainer").order_by("attempt")
    return dict(streams.values_list("attempt", "cursor"))


def cursor_of(run: Run) -> dict[str, int]:
    """Where a reader of points stands who has read everything stored by now."""
    cursors = trainer_cursors(run)
    newest = max(cursors, default=0)
    return {"attempt": newest, "seq": cursors.get(newest, 0)}
