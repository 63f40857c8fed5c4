"""Store what runs report: a push applies iff it continues its stream, rows and cursor in one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import DataError, transaction
from django.utils import timezone

from orchestrator.models import Attempt, LogLine, Run, Sample, State, StepSpans, Stream
from orchestrator.selectors.pins import pins_of
from orchestrator.selectors.wants import want_of
from orchestrator.selectors.wire import execute
from orchestrator.services.answers import answers_store
from orchestrator.services.entries import PushError, push_read
from orchestrator.services.hints import hint
from orchestrator.services.outcomes import events_apply
from orchestrator.services.played import played_store
from orchestrator.services.points import chunk_store
from orchestrator.services.stream_health import pushes_counted
from trainer.events import JOURNALS, number_encode
from trainer.metrics import WARM_UP_PREFIX

if TYPE_CHECKING:
    from orchestrator.services.entries import Line, Push

ADVANCE = f'UPDATE "{Stream._meta.db_table}" SET cursor = %s, received = now() WHERE id = %s'
BULKY = ("spec", "effective_spec", "notes")
TOUCH_EVERY = timedelta(seconds=1)

__all__ = ["Ack", "PushError", "beat", "push_ingest", "stream_done"]


@dataclass(frozen=True)
class Ack:
    """What a push is answered: how far its stream is stored, and what people want of the run."""

    cursor: int
    applied: bool
    want: dict[str, Any]


@pushes_counted
def push_ingest(
    *, run_id: str, attempt: int, source: str, first: int, events: list[dict[str, Any]]
) -> Ack:
    """Store a push iff `first` is the cursor + 1; otherwise only answer the cursor.

    Raises PushError, with nothing stored, when an event is faulty or the run is gone.
    """
    push = push_read(source=source, first=first, events=events)
    try:
        return _apply(run_id, attempt, source, push, first, len(events))
    except DataError as error:
        raise PushError(f"the database cannot hold these events: {error}") from error


def _apply(run_id: str, attempt: int, source: str, push: Push, first: int, count: int) -> Ack:
    with transaction.atomic():
        stream = _stream_locked(run_id, attempt, source)
        run = stream.run
        if first != stream.cursor + 1 or not count:
            return Ack(stream.cursor, False, want_of(run, attempt))
        _rows_store(run_id, attempt, source, push)
        answers_store(run_id=run_id, push=push)
        played_store(run_id=run_id, push=push)
        if push.facts or not _in_touch(run):
            events_apply(run=run, attempt=attempt, source=source, events=push.facts)
        _newest_note(run, attempt, push)
        stream.cursor += count
        execute(ADVANCE, [stream.cursor, stream.pk])
        _hints_send(run_id, attempt, stream.cursor, push)
        return Ack(stream.cursor, True, want_of(run, attempt))


def _in_touch(run: Run) -> bool:
    """Whether the lease was renewed a moment ago: a sign of life counts once a second."""
    known = run.last_contact
    return run.state != State.LOST and known is not None and timezone.now() - known < TOUCH_EVERY


def _stream_locked(run_id: str, attempt: int, source: str) -> Stream:
    """The stream's row and its run's, locked until the transaction ends; the first push makes the former.

    The order of locks is stream, then run, everywhere.
    """
    which = {"run_id": run_id, "attempt": attempt, "source": source}
    both = Stream.objects.select_for_update(of=("self", "run"), no_key=True)
    both = both.select_related("run").defer(*(f"run__{name}" for name in BULKY))
    for stream in both.filter(**which):
        return stream
    if not Attempt.objects.filter(run_id=run_id, number=attempt).exists():
        raise PushError(f"run {run_id} has no attempt {attempt} (any more)")
    # Of two first pushes, the second one waits here for the first one's row.
    Stream.objects.bulk_create([Stream(**which)], ignore_conflicts=True)
    return both.get(**which)


def _rows_store(run_id: str, attempt: int, source: str, push: Push) -> None:
    of_run = {"run_id": run_id, "attempt": attempt}
    if push.lines:
        chunk_store(run_id=run_id, attempt=attempt, lines=push.lines)
    if push.samples:
        Sample.objects.bulk_create(
            [Sample(**of_run, **sample) for sample in push.samples], batch_size=500
        )
    if push.spans:
        StepSpans.objects.bulk_create(
            [StepSpans(**of_run, **line) for line in push.spans], batch_size=500
        )
    if push.log:
        LogLine.objects.bulk_create(
            [LogLine(**of_run, source=source, **line) for line in push.log], batch_size=2000
        )


def _newest_note(run: Run, attempt: int, push: Push) -> None:
    """Keep what lists show of a run beside it: step and newest values."""
    if attempt != run.attempt or not push.lines:
        return
    newest_values: dict[str, float] = {}
    for line in push.lines:
        newest_values.update(line.values)
    run.latest |= {key: number_encode(value) for key, value in newest_values.items()}
    fields = ["latest"]
    if push.expect_next_in is not None:
        run.expect_next_in = push.expect_next_in
        fields.append("expect_next_in")
    newest = _newest_step(push)
    if newest is not None:
        run.step = newest.step
        fields.append("step")
    run.save(update_fields=fields)


def _newest_step(push: Push) -> Line | None:
    """The last line of training proper, unless a later status or heartbeat already gave the step."""
    stated = max((fact["seq"] for fact in push.facts if "step" in fact), default=0)
    for line in reversed(push.lines):
        if not all(key.startswith(WARM_UP_PREFIX) for key in line.values):
            return line if line.seq > stated else None
    return None


def _hints_send(run_id: str, attempt: int, cursor: int, push: Push) -> None:
    if push.lines or push.spans:
        hint("points", run=run_id, attempt=attempt, seq=cursor)
    if push.samples:
        hint("samples", run=run_id, step=push.samples[-1]["step"])
    if push.log:
        hint("log", run=run_id)
    if push.facts:
        hint("run", run=run_id)


def beat(*, run_id: str, attempt: int) -> dict[str, Any]:
    """Note that the node still speaks for this attempt; return what people want of the run."""
    with transaction.atomic():
        run = Run.objects.select_for_update(no_key=True).filter(pk=run_id).first()
        if run is None:
            return {"want": "stop", "cause": "user", "message": "the run was deleted", "knobs": {}}
        events_apply(run=run, attempt=attempt, source="ship", events=[])
        # In answers to beats alone: pushes are many, and what is pinned changes seldom.
        return want_of(run, attempt) | {"pins": pins_of(run_id)}


def stream_done(*, run_id: str, attempt: int, counts: dict[str, int]) -> dict[str, int]:
    """Mark the data of an attempt complete when every stream holds as many lines as its journal.

    Returns the cursors of the streams that are still short; empty when all is stored.
    """
    if counts.keys() != JOURNALS.keys() or not all(type(n) is int for n in counts.values()):
        raise PushError(f"counts must hold a number of lines for each of {', '.join(JOURNALS)}")
    with transaction.atomic():
        stored = dict(
            Stream.objects.filter(run_id=run_id, attempt=attempt).values_list("source", "cursor")
        )
        for source, cursor in stored.items():
            if counts[source] < cursor:
                raise PushError(f"counts says {counts[source]} of {source}; {cursor} are stored")
        short = {s: stored.get(s, 0) for s, n in counts.items() if stored.get(s, 0) < n}
        if not short:
            Run.objects.filter(pk=run_id, attempt=attempt).update(complete=True)
            hint("run", run=run_id)
    return short
