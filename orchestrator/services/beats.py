"""Keep what ship says in its beats: how long the journals are, and how far the node's clock is off."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from orchestrator.models import Attempt, Event, ShipReport
from orchestrator.selectors.truth_verdict import span
from orchestrator.services.entries import PushError
from orchestrator.services.hints import hint
from orchestrator.services.stream_health import counts_write
from trainer.beat import DRIFT
from trainer.events import JOURNALS, number_decode

COUNT_END = 2**62
CLOCK_END = 1e9  # seconds
CLOCK_FAR = 60.0
"""Seconds by which a node's clock may be off before people are told."""
CLOCK_CODE = "clock-far-off"


def beat_note(*, run_id: str, attempt: int, journals: Any = None, clock: Any = None) -> None:
    """Keep what ship reported in a beat; an older ship reports nothing. Raises PushError when it is faulty."""
    told = _journals_read(journals)
    offset, within = _clock_read(clock)
    counts_write(run_id=run_id, attempt=attempt)
    if told is None and offset is None:
        return
    if not Attempt.objects.filter(run_id=run_id, number=attempt).exists():
        return
    fresh: dict[str, Any] = {"received": timezone.now()}
    if told is not None:
        fresh["journals"] = told
    if offset is not None and within is not None:
        offset, within = _clock_better(run_id, attempt, offset, within)
        fresh |= {"clock_offset": offset, "clock_within": within}
        if abs(offset) > within + CLOCK_FAR:
            _clock_tell(run_id, attempt, offset)
    ShipReport.objects.update_or_create(run_id=run_id, attempt=attempt, defaults=fresh)


def _clock_better(run_id: str, attempt: int, offset: float, within: float) -> tuple[float, float]:
    """What is known of the clocks: a ship that has just started knows less than the one before it."""
    known = ShipReport.objects.filter(run_id=run_id, attempt=attempt).first()
    if known is None or known.clock_offset is None or known.clock_within is None:
        return offset, within
    age = max(0.0, (timezone.now() - known.received).total_seconds())
    faded = known.clock_within + DRIFT * age
    agree = abs(known.clock_offset - offset) <= faded + within
    return (known.clock_offset, faded) if agree and faded < within else (offset, within)


def _clock_tell(run_id: str, attempt: int, offset: float) -> None:
    """Tell people once per attempt that a node's clock is far off, and what of it is true all the same."""
    side = "ahead of" if offset > 0 else "behind"
    what = {"run_id": run_id, "attempt": attempt, "source": "server", "type": "alert"}
    if Event.objects.filter(**what, data__code=CLOCK_CODE).exists():
        return
    message = (
        f"The clock of this attempt's node is {span(abs(offset))} {side} the server's. Its points stand at "
        "the node's times on a time axis; contact, states and lags go by the server's clock."
    )
    data = {"level": "warning", "code": CLOCK_CODE, "message": message}
    Event.objects.create(**what, time=timezone.now(), data=data)
    hint("run", run=run_id)


def _journals_read(journals: Any) -> dict[str, list[int]] | None:
    if journals is None:
        return None
    told = isinstance(journals, dict) and journals.keys() <= JOURNALS.keys()
    if not told or not all(_is_counts(counts) for counts in journals.values()):
        raise PushError("journals must hold [lines, bytes, bytes not counted] by source")
    return dict(journals)


def _is_counts(counts: Any) -> bool:
    return (
        isinstance(counts, list)
        and len(counts) == 3
        and all(type(n) is int and 0 <= n < COUNT_END for n in counts)
    )


def _clock_read(clock: Any) -> tuple[float | None, float | None]:
    if clock is None:
        return None, None
    try:
        offset, within = (number_decode(value) for value in clock)
    except (TypeError, ValueError) as error:
        raise PushError("clock must be [offset, within], both in seconds") from error
    if not (abs(offset) < CLOCK_END and 0 <= within < CLOCK_END):
        raise PushError(f"a clock that is off by {offset} s, give or take {within} s, is none")
    return offset, within
