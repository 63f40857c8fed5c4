"""How an attempt ended: with which cause, who said so, and what the restart policy made of it."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from orchestrator.models import Event, Process, State, Stream
from orchestrator.models.contact import LEASE
from orchestrator.models.restart_policy import policy_stored
from orchestrator.models.state import STATE_OF_CAUSE
from trainer.events import TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from orchestrator.models import Attempt, Run, ShipReport

EVENTS_MOST = 2000
"""So many of an attempt's newest alerts and words about its state are looked at."""
BEFORE_END = timedelta(seconds=2)
"""What became of an attempt may be noted a moment before its own row says that it ended."""


@dataclass(frozen=True)
class End:
    """The end of an attempt; empty words while it has none."""

    cause: str
    message: str
    said_by: str
    """trainer, host or server; "" while nobody has said anything."""
    time: datetime | None
    """When it ended, by the server's clock as far as the difference is known."""
    exit_code: int | None
    signal: str

    @property
    def exit_words(self) -> str:
        """The exit code or signal as people say it."""
        if self.signal:
            return self.signal
        return "" if self.exit_code is None else f"exit code {self.exit_code}"


def is_bad(cause: str) -> bool:
    """Whether an attempt with this cause ended otherwise than it should: its run failed or was lost by it."""
    return STATE_OF_CAUSE.get(cause, State.FAILED) in (State.FAILED, State.LOST) if cause else False


def events_of(run: Run, number: int) -> list[Event]:
    """The newest alerts of an attempt, its last words, and what the server noted: oldest first."""
    told = Event.objects.filter(run=run, attempt=number, type__in=("status", "alert"))
    wanted = Q(type="alert") | Q(source="server") | Q(data__state__in=list(TERMINAL))
    return list(told.filter(wanted).order_by("-id")[:EVENTS_MOST])[::-1]


def attempt_cause(run: Run, attempt: Attempt) -> str:
    """The cause of an attempt's end; of the newest one the run's own counts while the row has none."""
    if attempt.cause or attempt.number != run.attempt or run.process != Process.EXITED:
        return attempt.cause
    return run.cause


def end_of(run: Run, attempt: Attempt, events: Sequence[Event], ahead: float) -> End:
    """How the attempt ended; `ahead` are the seconds that its node's clock is ahead of the server's."""
    words = [
        event
        for event in events
        if event.type == "status"
        and event.source in ("trainer", "host")
        and event.data.get("state") in TERMINAL
        and not _reports_spec(event)
    ]
    cause = attempt_cause(run, attempt)
    moment = attempt.ended
    if moment is None and attempt.number == run.attempt and run.process == Process.EXITED:
        moment = run.ended
    said_by = ""
    if cause:
        said_by = "server"
        # A later word of an attempt that was given up does not change what it was given up for.
        if words and words[0].data.get("cause", cause) in (cause, ""):
            said_by = _speaker(words[0])
            moment = words[0].time - timedelta(seconds=ahead)
    name = _signal_name(attempt.exit_code)
    message = attempt.message or (run.reason if attempt.number == run.attempt else "")
    return End(cause, message, said_by, moment, attempt.exit_code, name)


def _reports_spec(event: Event) -> bool:
    data = event.data.get("data")
    return event.source == "host" and isinstance(data, dict) and "spec" in data


def _speaker(event: Event) -> str:
    data = event.data.get("data")
    by_host = isinstance(data, dict) and data.get("written_by") == "host"
    return "host" if by_host else event.source


def _signal_name(code: int | None) -> str:
    if code is None or code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def heard_last(run: Run, attempt: Attempt, report: ShipReport | None) -> datetime | None:
    """When anything of the attempt spoke last, by the server's clock."""
    streams = Stream.objects.filter(run=run, attempt=attempt.number, received__isnull=False)
    heard: list[datetime] = list(streams.values_list("received", flat=True))
    if report is not None:
        heard.append(report.received)
    if attempt.lease_expires is not None:
        heard.append(attempt.lease_expires - LEASE)
    if attempt.number == run.attempt and run.last_contact is not None:
        heard.append(run.last_contact)
    return max(heard, default=None)


def outcome_of(run: Run, attempt: Attempt, end: End, events: Sequence[Event]) -> dict[str, Any]:
    """What was made of the end: `what` in a word, the next attempt, the step rolled back to, sentences."""
    back = next((step for number, step in run.voids if number == attempt.number), None)
    following = attempt.number + 1 if run.attempt > attempt.number else None
    decided = _decision(attempt, events)
    state = str(decided.data.get("state", "")) if decided else ""
    why = str(decided.data.get("reason", "")) if decided else ""
    if not why and attempt.number == run.attempt and run.process == Process.EXITED:
        why = run.reason
    # The reason repeats what happened and goes on with what is done about it.
    why = why.removeprefix(end.message).strip()
    found = {"next": following, "rolled_back_to": back, "why": why}
    if not end.cause:
        return {**found, "what": "open", "words": "It has not ended."}
    if state == State.QUEUED or (following and not state):
        place = "" if back is None else f"Rolled back to step {back}. "
        place = "Back to the start. " if back == 0 else place
        if following is None:
            words = "It waits in the queue for its next attempt."
            return {**found, "what": "waits", "words": place + words}
        what = "restarted" if back is None else "rolled-back"
        return {**found, "what": what, "words": f"{place}Restarted as attempt {following}."}
    if following:
        words = f"The run ended with it; somebody started it again as attempt {following}."
        return {**found, "what": "retried", "words": words}
    if run.process != Process.EXITED:
        words = "What becomes of it is not decided yet: the last word of its host is awaited."
        return {**found, "what": "open", "words": words}
    more = _not_again(run, end)
    found["why"] = "" if why == more else why
    return {**found, "what": "ended", "words": f"The run ended with it. {more}".strip()}


def _decision(attempt: Attempt, events: Sequence[Event]) -> Event | None:
    """What the server made of the run when the attempt had ended."""
    if attempt.ended is None:
        return None
    since = attempt.ended - BEFORE_END
    states = (State.QUEUED, State.FAILED, State.STOPPED, State.PAUSED, State.FINISHED)
    return next(
        (
            event
            for event in events
            if event.source == "server"
            and event.type == "status"
            and event.time >= since
            and event.data.get("state") in states
            and event.data.get("was") != event.data.get("state")
        ),
        None,
    )


def _not_again(run: Run, end: End) -> str:
    policy = policy_stored(run.policy)
    if end.cause in ("killed", "node-lost", "fenced", "gpu-busy"):
        if run.max_restarts and run.restarts >= run.max_restarts:
            return f"All {run.max_restarts} restarts are used."
        return "It may not be restarted: max_restarts is 0." if not run.max_restarts else ""
    if end.cause == "oom" and policy.on_oom == "fail":
        return "Its restart policy does nothing about memory (on_oom)."
    if end.cause == "nan" and policy.on_nan == "fail":
        return "Its restart policy does not roll back (on_nan)."
    if end.cause == "stall" and policy.on_stall == "stop":
        return "Its restart policy ends a run that hangs (on_stall)."
    if end.cause in ("crash", "bad-input", "disk"):
        return "A failure of this kind is not cured by starting again."
    return ""
