"""The truth panel: what arrived of an attempt, how late, what waits, what was promised, and why it is shown so."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from django.utils import timezone

from orchestrator.models import Attempt, Process, ShipReport, Stream, StreamHealth
from orchestrator.models.contact import GRACE, LEASE, in_contact, state_now
from orchestrator.selectors.state_why import HELD, state_why
from orchestrator.selectors.truth_verdict import fact_words, promise_words, span, verdict
from trainer.events import JOURNALS

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.models import Run

CLOCKS_EQUAL = 0.05
"""Seconds below which a difference of clocks is not worth a word, when it is known that well."""
SILENT = GRACE
"""Silence of ship after which missing lines are no longer taken to be on their way."""
NAMES = {"trainer": "Metrics and events", "samples": "Samples", "host": "Host"}


def attempts_of(run: Run) -> list[int]:
    """The numbers of a run's attempts, oldest first."""
    return list(Attempt.objects.filter(run=run).order_by("number").values_list("number", flat=True))


def truth_read(run: Run, attempt: int | None = None) -> dict[str, Any]:
    """Everything known of the transport of one attempt, the newest unless one is asked for.

    Raises ValueError for an attempt that the run does not have. Without any attempt `streams` is empty.
    """
    attempts = attempts_of(run)
    if attempt is not None and attempt not in attempts:
        raise ValueError(f"this run has no attempt {attempt}")
    number = attempt if attempt is not None else (attempts[-1] if attempts else None)
    now = timezone.now()
    answer = {
        "run": run.pk,
        "attempt": number,
        "attempts": attempts,
        "at": now,
        "state": _state(run, now),
        "heartbeat": _heartbeat(run, None, now),
        "clock": _clock(None, 0.0),
        "streams": [],
        "verdict": verdict([], newest=True, complete=False, carrier="unheard", silence=""),
    }
    if number is None:
        return answer
    of_attempt = {"run": run, "attempt": number}
    streams = {row.source: row for row in Stream.objects.filter(**of_attempt)}
    health = {row.source: row for row in StreamHealth.objects.filter(**of_attempt)}
    report = ShipReport.objects.filter(**of_attempt).first()
    newest = number == run.attempt
    carrier, silence = _carrier(streams, report, now, done=newest and run.complete)
    fastest = min((lag for row in health.values() for lag in row.lags), default=0.0)
    clock = _clock(report, fastest)
    if newest:
        answer["heartbeat"] = _heartbeat(run, streams.get("trainer"), now, report, carrier)
    told = report.journals if report else {}
    answer["clock"] = clock
    answer["streams"] = [
        {
            **_stream(source, streams.get(source), health.get(source), told.get(source), clock),
            "counted": report.received if report and source in told else None,
        }
        for source in JOURNALS
    ]
    for stream in answer["streams"]:
        stream["missing_are"] = _missing_word(stream["missing"], carrier, newest)
    answer["verdict"] = verdict(
        answer["streams"],
        newest=newest,
        complete=run.complete,
        # The ship of an attempt that is over may well be gone.
        carrier=carrier if newest or any(s["missing"] for s in answer["streams"]) else "done",
        silence=span(silence),
    )
    return answer


def _carrier(
    streams: dict[str, Stream], report: ShipReport | None, now: datetime, *, done: bool
) -> tuple[str, float]:
    """What is known of ship: speaks, silent, done or unheard; and for how many seconds it is silent."""
    heard = [row.received for row in streams.values() if row.received]
    if report is not None:
        heard.append(report.received)
    if not heard:
        return "unheard", 0.0
    silence = now - max(heard)
    if done:
        return "done", silence.total_seconds()
    return "speaks" if silence < SILENT else "silent", silence.total_seconds()


def _state(run: Run, now: datetime) -> dict[str, Any]:
    return {
        "shown": str(state_now(run, now)),
        "why": state_why(run, now),
        "reason": run.reason,
        "desired": str(run.desired),
        "process": str(run.process),
        "contact": _contact_word(run, now),
        "phase": run.phase,
        "data": _data_word(run),
        "meanings": fact_words(run, now),
    }


def _contact_word(run: Run, now: datetime) -> str:
    if run.process not in HELD:
        return "not needed"
    if run.last_contact is None:
        return "not yet"
    return "kept" if in_contact(run, now) else "broken"


def _data_word(run: Run) -> str:
    if not run.attempt:
        return "none yet"
    return "complete" if run.complete else "open"


def _heartbeat(
    run: Run,
    trainer: Stream | None,
    now: datetime,
    report: ShipReport | None = None,
    carrier: str = "unheard",
) -> dict[str, Any]:
    spoke = trainer.received if trainer else None
    # An attempt that is not at work owes nobody a word.
    promises = run.process == Process.ALIVE and spoke is not None
    due = spoke + timedelta(seconds=run.expect_next_in) if promises and spoke else None
    held = run.process in HELD and run.last_contact is not None
    promised = run.expect_next_in if promises else None
    overdue = max(0.0, round((now - due).total_seconds(), 1)) if due else None
    return {
        "last_contact": run.last_contact,
        "contact_until": run.last_contact + LEASE + GRACE if held else None,
        "trainer_spoke": spoke,
        "promised_s": promised,
        "due": due,
        "overdue_s": overdue,
        "ship_spoke": report.received if report else None,
        "promise": promise_words(promised=promised, due=due, overdue=overdue, carrier=carrier),
    }


def _clock(report: ShipReport | None, fastest: float) -> dict[str, Any]:
    """The difference of the clocks as ship measured it, else as little as the lags can tell of it."""
    if report is not None and report.clock_offset is not None and report.clock_within is not None:
        offset, within = report.clock_offset, report.clock_within
        return {
            "measured": True,
            "offset_s": offset,
            "within_s": within,
            # What may as well be no difference corrects nothing.
            "correction_s": offset if abs(offset) > within else 0.0,
            "words": _clock_words(offset, within),
        }
    # Nothing arrives before it was written: what seems to, tells that the node's clock is ahead.
    ahead = max(0.0, -fastest)
    words = "The clocks were not compared yet: the lags take them for equal."
    if ahead > 0:
        words = (
            f"The clock of the node is ahead by {_seconds(ahead)} or more; the lags count from the "
            "fastest push."
        )
    return {
        "measured": False,
        "offset_s": None,
        "within_s": None,
        "correction_s": ahead,
        "words": words,
    }


def _clock_words(offset: float, within: float) -> str:
    if abs(offset) <= max(within, CLOCKS_EQUAL):
        return f"The clocks of node and server agree within {_seconds(max(abs(offset), within))}."
    side = "ahead" if offset > 0 else "behind"
    known = f"give or take {_seconds(within)}"
    return f"The clock of the node is {side} by {_seconds(abs(offset))}, {known}; the lags are corrected."


def _seconds(value: float) -> str:
    if value < 1:
        return f"{max(value * 1000, 0.1):.3g} ms"
    return f"{value:.1f} s" if value < 100 else f"{value:,.0f} s".replace(",", "\u2009")


def _stream(
    source: str,
    stream: Stream | None,
    health: StreamHealth | None,
    told: list[int] | None,
    clock: dict[str, Any],
) -> dict[str, Any]:
    stored = stream.cursor if stream else 0
    health = health or StreamHealth()
    lines, size, uncounted = told or (None, None, None)
    known = max(stored, health.highest, lines or 0)
    # The node's clock shows `offset` more than the server's: a lag seems so much shorter than it was.
    lags = np.array(health.lags) + clock["correction_s"]
    p50, p95 = np.percentile(lags, [50, 95]).tolist() if len(lags) else (None, None)
    return {
        "source": source,
        "name": NAMES[source],
        "stored": stored,
        "known": known,
        "missing": known - stored,
        "repeated_lines": health.repeated_lines,
        "repeated_pushes": health.repeated_pushes,
        "early_lines": health.early_lines,
        "early_pushes": health.early_pushes,
        "refused_pushes": health.refused_pushes,
        "refused_why": health.refused_why,
        "pushes": health.pushes,
        "received": stream.received if stream else None,
        "lag_p50_s": _lag(p50),
        "lag_p95_s": _lag(p95),
        "lag_pushes": len(lags),
        "spool_lines": None if lines is None else max(0, lines - stored),
        "journal_lines": lines,
        "journal_bytes": size,
        "journal_whole": None if uncounted is None else uncounted == 0,
    }


def _missing_word(missing: int, carrier: str, newest: bool) -> str:
    if not missing:
        # What a silent ship has not told of cannot be known here.
        return "none known" if newest and carrier == "silent" else "none"
    return "on their way" if carrier == "speaks" else "not delivered"


def _lag(seconds: float | None) -> float | None:
    """A lag as shown: a measured one below zero is the clocks' uncertainty, not time travel."""
    return None if seconds is None else round(max(0.0, seconds), 4)
