"""The post-mortem of an attempt: what happened, when it began, what was still good, what was made of it.

Pure reads, bounded whatever the size of the run: heads and picks of blocks, the last lines, the newest
alerts, the readings of the minutes before. Nothing is invented: "none was seen" is an answer.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.urls import reverse
from django.utils import timezone

from orchestrator.models import Attempt, Process, ShipReport, State
from orchestrator.models.contact import state_now
from orchestrator.selectors.alert_signals import (
    alert_signals,
    stall_now,
    stall_open,
    stall_shape,
)
from orchestrator.selectors.attempt_ends import (
    End,
    attempt_cause,
    end_of,
    events_of,
    heard_last,
    is_bad,
    outcome_of,
)
from orchestrator.selectors.attempt_points import AttemptPoints
from orchestrator.selectors.healthy_steps import bound_of, healthy_of
from orchestrator.selectors.log_signals import log_last, log_signals
from orchestrator.selectors.metric_signals import (
    RECENT,
    main_key,
    pause_signals,
    sick_signals,
    unusual_signals,
)
from orchestrator.selectors.node_signals import node_signals
from orchestrator.selectors.points import BlocksMoved
from orchestrator.selectors.post_mortem_text import markdown, sentence, what_to_do
from orchestrator.selectors.run_advice import cause_name
from orchestrator.selectors.signals import Signal, signal_shape
from orchestrator.selectors.truth_verdict import span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Event, Run

LOOK_BACK = timedelta(minutes=15)
SIGNALS_MOST = 20
FULL = ("ram-full", "disk-full", "vram-full")
UNRELATED = {"nan": FULL, "bad-input": (*FULL, "gpu-hot", "gpu-spins")}
"""Signs of the machine that have nothing to do with a cause: a number, or a spec that cannot run."""
HELD = (Process.CLAIMED, Process.ALIVE)


class NoPostMortem(LookupError):
    """There is nothing to look into; the text says why."""


def post_mortem_attempts(run: Run) -> list[int]:
    """The attempts that ended badly, or that are lost or stalled at this moment; oldest first."""
    rows = Attempt.objects.filter(run=run).order_by("number")
    found = [row.number for row in rows if is_bad(attempt_cause(run, row))]
    newest = rows.last()
    if newest is not None and newest.number not in found and _now(run, newest):
        found.append(newest.number)
    return found


def post_mortem_read(run: Run, attempt: int | None = None) -> dict[str, Any]:
    """The post-mortem of one attempt, by default of the newest that ended badly. Raises NoPostMortem."""
    number = _chosen(run, attempt)
    row = Attempt.objects.select_related("node").get(run=run, number=number)
    while True:
        try:
            return _read(run, row)
        except BlocksMoved:
            continue


def post_mortem_newest(run: Run) -> dict[str, Any] | None:
    """The post-mortem of the newest attempt, when that one ended badly or is lost or stalled; else None."""
    if not run.attempt or run.attempt not in post_mortem_attempts(run):
        return None
    return post_mortem_read(run, run.attempt)


def _chosen(run: Run, asked: int | None) -> int:
    bad = post_mortem_attempts(run)
    if asked in bad or (asked is None and bad):
        return bad[-1] if asked is None else asked
    if asked is None:
        words = "none of its attempts ended badly" if run.attempt else "it never had an attempt"
        raise NoPostMortem(f"There is no post-mortem of this run: {words}.")
    row = Attempt.objects.filter(run=run, number=asked).first()
    if row is None:
        raise NoPostMortem(f"This run has no attempt {asked}; it has had {run.attempt}.")
    words = f"it ended with the cause “{row.cause}”" if row.cause else "it has not ended"
    if row.ended is None and asked == run.attempt and run.process in HELD:
        words = "it is at work and in contact"
    raise NoPostMortem(f"There is no post-mortem of attempt {asked}: {words}.")


def _now(run: Run, row: Attempt) -> str:
    """Whether the attempt is lost or stalled at this moment, else ""."""
    if row.number != run.attempt or row.ended is not None or run.process not in HELD:
        return ""
    if state_now(run) == State.LOST:
        return "lost"
    return "stalled" if stall_now(run) else ""


def _read(run: Run, row: Attempt) -> dict[str, Any]:
    number = row.number
    report = ShipReport.objects.filter(run=run, attempt=number).first()
    ahead = _ahead(report)
    events = events_of(run, number)
    end = end_of(run, row, events, ahead)
    now = _now(run, row)
    heard = heard_last(run, row, report)
    points = AttemptPoints(run, number)
    stall = stall_open(events) if now == "stalled" or end.cause else None
    # By the server's clock: when the trouble was over or, where nobody saw that, the last word.
    silent = now == "lost" or end.cause == "node-lost"
    until = (heard if silent else end.time) or end.time or heard or timezone.now()
    if now == "stalled":
        until = timezone.now()
    since = _since(points, until, stall, ahead)
    signals = _signals(
        run, row, events, points, cause=end.cause, since=since, until=until, ahead=ahead
    )
    if silent and heard is not None:
        signals.append(_silence(row, heard, end))
    signals = _placed(signals, points, until, ahead)
    bound = bound_of(signals)
    healthy = healthy_of(run, row, points, bound and bound.earlier(-ahead), end.time)
    lines, source = log_last(run, row)
    found = {
        "run": run.pk,
        "run_name": run.name or run.pk,
        "attempt": number,
        "attempts": Attempt.objects.filter(run=run).count(),
        "others": [one for one in post_mortem_attempts(run) if one != number],
        "state": now or "ended",
        "cause": end.cause or ("stall" if now == "stalled" else ""),
        "cause_words": cause_name(end.cause or ("stall" if now == "stalled" else "")),
        "message": end.message if end.cause else _said_now(run, stall),
        "said_by": end.said_by,
        "ended": end.time,
        "exit_code": end.exit_code,
        "signal": end.signal,
        "exit_words": end.exit_words,
        "node": row.node.name if row.node else None,
        "last_heard": heard,
        "outcome": outcome_of(run, row, end, events),
        "healthy": healthy,
        "first": signal_shape(run, number, signals[0]) if signals else None,
        "signals": [signal_shape(run, number, one) for one in signals[1 : SIGNALS_MOST + 1]],
        "signals_more": max(0, len(signals) - SIGNALS_MOST - 1),
        "looked_since": since,
        "log": [{"id": line.pk, "time": line.time, "text": line.text} for line in lines],
        "log_from": source,
        "stall": stall_shape(stall) if stall is not None else None,
    }
    found["words"] = sentence(found)
    found["advice"] = what_to_do(found)
    found["link"] = f"{reverse('run-tab', args=[run.pk, 'post-mortem'])}?attempt={number}"
    found["markdown"] = markdown(found)
    return found


def _said_now(run: Run, stall: Event | None) -> str:
    """What is said of an attempt that has not ended."""
    return (str(stall.data.get("message", "")) if stall is not None else "") or run.reason


def _ahead(report: ShipReport | None) -> float:
    """Seconds that the node's clock is ahead; what may as well be no difference is none."""
    if report is None or report.clock_offset is None or report.clock_within is None:
        return 0.0
    offset: float = report.clock_offset
    return offset if abs(offset) > report.clock_within else 0.0


def _since(points: AttemptPoints, until: datetime, stall: Event | None, ahead: float) -> datetime:
    """How far back signs are looked for: a quarter of an hour, or the last steps where these took longer."""
    anchor = until
    if stall is not None:
        anchor = min(until, stall.time - timedelta(seconds=ahead))
    since = anchor - LOOK_BACK
    key = main_key(points)
    if key is not None:
        steps = points.last(key, RECENT)
        since = min(since, datetime.fromtimestamp(float(steps["time"][0]) - ahead, UTC))
    return since


def _signals(
    run: Run,
    row: Attempt,
    events: Sequence[Event],
    points: AttemptPoints,
    *,
    cause: str,
    since: datetime,
    until: datetime,
    ahead: float,
) -> list[Signal]:
    """Every sign by the server's clock, in no order."""
    start = since.timestamp() + ahead
    by_node = [
        *sick_signals(points, start),
        *unusual_signals(points),
        *log_signals(run, row, start),
        *alert_signals([one for one in events if one.source != "server"], start),
    ]
    if not any(signal.code == "stall" for signal in by_node):
        by_node += pause_signals(run, row.number, points, until.timestamp() + ahead)
    by_server = alert_signals([one for one in events if one.source == "server"], since.timestamp())
    machine = [
        one
        for one in node_signals(row.node, since, until)
        if _bears_on(one.code, cause, row.exit_code)
    ]
    return [signal.earlier(ahead) for signal in by_node] + by_server + machine


def _bears_on(code: str, cause: str, exit_code: int | None) -> bool:
    """Whether a sign of the machine can have to do with a cause; it may have been another run's doing as well."""
    if cause == "crash" and exit_code is not None and exit_code >= 0:
        return code not in FULL  # the trainer itself raised the error that it ended with
    return code not in UNRELATED.get(cause, ())


def _silence(row: Attempt, heard: datetime, end: End) -> Signal:
    node = row.node.name if row.node else "its node"
    given_up = row.ended is not None and end.cause == "node-lost"
    silence = span(((row.ended if given_up else timezone.now()) - heard).total_seconds())
    after = f"{silence} later it was given up" if given_up else f"that is {silence} ago"
    return Signal(
        kind="silence",
        code="silent",
        time=heard.timestamp(),
        title=f"No word from {node}",
        text=f"The attempt spoke last at {heard:%H:%M:%S} UTC; {after}.",
    )


def _placed(
    signals: list[Signal], points: AttemptPoints, until: datetime, ahead: float
) -> list[Signal]:
    """In the order of time, none behind the end, each with the step that was logged last before it."""
    key = main_key(points)
    found = []
    for signal in sorted(signals, key=lambda one: (one.time, one.kind != "metric", one.code)):
        step = signal.step
        if step is None and key is not None:
            before = points.upto(key, time=signal.time + ahead)
            step = int(before["step"][-1]) if len(before) else None
        # A last line is written a moment after what it tells of.
        found.append(replace(signal, step=step, time=min(signal.time, until.timestamp())))
    return found
