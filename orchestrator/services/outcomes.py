"""What a run's journals say becomes facts of the run. Every rule asks first whether it still applies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.models import (
    Attempt,
    Checkpoint,
    Desired,
    Event,
    Node,
    Process,
    ShipReport,
    State,
)
from orchestrator.models.contact import LEASE
from orchestrator.selectors.stalls import STALLED, stall_reason
from orchestrator.services.facts import run_change
from orchestrator.services.members import members_end, rendezvous_note
from orchestrator.services.registry import checkpoint_replaced, pins_missed
from orchestrator.services.restarts import (
    FROM_OUTSIDE,
    decides_late,
    ended,
    failed,
    queued,
    restarted,
)
from trainer.events import TERMINAL, number_decode
from trainer.spec import spec_hash

if TYPE_CHECKING:
    from orchestrator.models import Run

HELD = (Process.CLAIMED, Process.ALIVE)
FORCE = "ended by force."
"""How host's sentence ends when a trainer had to be killed."""
FORCED = "It did not end in time and was ended by force."
CLOCK_SLACK = 1.0
"""Seconds by which a clock may be put right without being taken for one that was set back."""
RECORDED = frozenset({"status", "checkpoint", "alert"})
MEETING = "meeting"
"""In the data of a trainer's status: where the first machine of a gang awaits the others."""


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, in the words of its trainer or its host."""

    state: str
    cause: str
    message: str
    exit_code: int | None = None
    host: dict[str, Any] = field(default_factory=dict)


def events_apply(*, run: Run, attempt: int, source: str, events: list[dict[str, Any]]) -> None:
    """Apply the events of one push; `run` is locked. An attempt that was fenced changes only its own row."""
    is_current = attempt == run.attempt
    if is_current:
        _contact(run, attempt)
    for event in events:
        if event["type"] in RECORDED and not _is_spec(source, event):
            _record(run, attempt, source, event)
        if is_current and source == "trainer" and run.process not in HELD:
            _late_step(run, event)
        if event["type"] == "checkpoint":
            _checkpoint(run, attempt, event)
        elif event["type"] == "status" and event.get("state") in TERMINAL:
            if is_current and run.process in HELD:
                run_change(run, who=source, **_figures(event))
            late = source == "trainer" and event["state"] == "failed" and decides_late(run)
            attempt_end(
                run, attempt, _ending(source, event), who=_speaker(run, source), decides=not late
            )
        elif not is_current or run.process not in HELD:
            continue
        elif _is_spec(source, event):
            _spec_take(run, event["data"])
        elif source == "trainer" and event["type"] in ("status", "heartbeat"):
            _trainer_speaks(run, event)
        elif source == "host" and event["type"] == "alert":
            _stall_shown(run, event)


def _contact(run: Run, attempt: int) -> None:
    """Somebody spoke for the attempt: by this server's clock, whatever the event's own time."""
    if run.process not in HELD:
        return
    now = timezone.now()
    facts: dict[str, Any] = {"last_contact": now}
    if run.state == State.LOST:
        facts["reason"] = "" if run.desired == Desired.RUN else run.reason
    Attempt.objects.filter(run=run, number=attempt).update(lease_expires=now + LEASE)
    run_change(run, who="server", **facts)


def _record(run: Run, attempt: int, source: str, event: dict[str, Any]) -> None:
    data = {key: value for key, value in event.items() if key not in ("seq", "time", "type")}
    if isinstance(data.get("data"), dict):
        # Where the machines of a gang meet is for its members alone.
        data["data"] = {key: value for key, value in data["data"].items() if key != MEETING}
    try:
        moment = datetime.fromtimestamp(float(event["time"]), UTC)
    except (ValueError, OverflowError, OSError):
        moment = timezone.now()
    Event.objects.create(
        run=run,
        attempt=attempt,
        source=source,
        seq=event["seq"],
        time=moment,
        type=event["type"],
        data=data,
    )


def _figures(event: dict[str, Any]) -> dict[str, Any]:
    """Where the trainer says it is: phase, step, and how many there are."""
    facts: dict[str, Any] = {}
    for name, kind in (("phase", str), ("step", int), ("total_steps", int)):
        # While it loads, the trainer does not know yet where it goes on.
        unknown = event.get("state") == "starting" and not event.get(name)
        if isinstance(event.get(name), kind) and not unknown:
            facts[name] = event[name][:32] if kind is str else event[name]
    return facts


def _trainer_speaks(run: Run, event: dict[str, Any]) -> None:
    facts = _figures(event)
    promise = event.get("expect_next_in")
    if isinstance(promise, (int, float)) and promise > 0:
        facts["expect_next_in"] = float(promise)
    if event["type"] == "status":
        facts["started"] = run.started or timezone.now()
        if event.get("state") != "starting":
            facts["process"] = Process.ALIVE
        rendezvous_note(run, run.attempt, (event.get("data") or {}).get(MEETING))
        reported = (event.get("data") or {}).get("spec_hash")
        if isinstance(reported, str):
            facts["spec_hash"] = reported[:64]
    if run.desired == Desired.RUN and run.reason and not run.leaves_for:
        facts["reason"] = ""
    run_change(run, who="trainer", **facts)


def _stall_shown(run: Run, event: dict[str, Any]) -> None:
    """Host says that the trainer stalls, or that it speaks again. Why a run is to end stays its reason."""
    if run.desired != Desired.RUN or run.leaves_for:
        return
    if event.get("code") == "stall":
        run_change(run, who="host", reason=stall_reason(event.get("data")))
    elif event.get("code") == "stall-over" and run.reason.startswith(STALLED):
        run_change(run, who="host", reason="")


def _late_step(run: Run, event: dict[str, Any]) -> None:
    """Host's last word may overtake the trainer's last lines: how far it came counts all the same."""
    step = event.get("step")
    if event["type"] == "status" and isinstance(step, int) and step > run.step:
        run_change(run, who="trainer", step=step)


def _is_spec(source: str, event: dict[str, Any]) -> bool:
    """Whether host reports spec.json as the trainer rewrote it."""
    data = event.get("data")
    return (
        source == "host" and event["type"] == "status" and isinstance(data, dict) and "spec" in data
    )


def _spec_take(run: Run, data: dict[str, Any]) -> None:
    spec = data["spec"]
    if isinstance(spec, dict) and spec_hash(spec) == data.get("sha256"):
        run_change(run, who="host", effective_spec=spec, spec_hash=data["sha256"])


def _checkpoint(run: Run, attempt: int, event: dict[str, Any]) -> None:
    """Note a checkpoint and the ones that were removed for it. A fenced attempt publishes none."""
    if _was_fenced(run, attempt, event):
        return
    metrics = event.get("metrics")
    step = int(event["step"])
    newer = Checkpoint.objects.filter(run=run, step=step, attempt__gt=attempt, deleted=None)
    if not newer.exists():
        checkpoint_replaced(run, step, sha256=str(event.get("sha256") or "")[:64], attempt=attempt)
        Checkpoint.objects.update_or_create(
            run=run,
            step=step,
            defaults={
                "attempt": attempt,
                "path": f"checkpoints/step-{step}",
                "bytes": int(event.get("bytes") or 0),
                "sha256": str(event.get("sha256") or "")[:64],
                "metrics": metrics if isinstance(metrics, dict) else {},
                "final": bool(event.get("final")),
                "deleted": None,
                "deleted_by": "",
                "leaves": [],
                "freed": None,
            },
        )
    removed = [step for step in event.get("removed") or [] if isinstance(step, int)]
    if removed:
        gone = Checkpoint.objects.filter(
            run=run, step__in=removed, attempt__lte=attempt, deleted=None
        )
        pins_missed(run, gone)
        gone.update(deleted=timezone.now())


def _was_fenced(run: Run, attempt: int, event: dict[str, Any]) -> bool:
    """Whether a newer attempt had begun when it was written; lines that only arrive late do count."""
    newer = Attempt.objects.filter(run=run, number__gt=attempt).order_by("number").first()
    if newer is None:
        return False
    moment = number_decode(event["time"])
    if _clock_went_back(run, attempt, event["seq"], moment):
        return True
    # The moment is the node's: what is known of its clock makes it the server's.
    report = ShipReport.objects.filter(run=run, attempt=attempt).first()
    ahead = (report.clock_offset if report else None) or 0.0
    return moment - ahead >= newer.dispatched.timestamp()


def _clock_went_back(run: Run, attempt: int, seq: int, moment: float) -> bool:
    """Whether an earlier line bears a later time: what was written behind it may be newer than it says."""
    before = Event.objects.filter(run=run, attempt=attempt, source="trainer", seq__lt=seq)
    latest = before.order_by("-time").values_list("time", flat=True).first()
    return latest is not None and latest.timestamp() > moment + CLOCK_SLACK


def _ending(source: str, event: dict[str, Any]) -> Ending:
    told = event if source == "host" else event.get("data") or {}
    code = told.get("exit_code")
    return Ending(
        state=str(event["state"]),
        cause=str(event.get("cause") or "crash")[:24],
        message=str(event.get("message") or ""),
        exit_code=code if isinstance(code, int) else None,
        host={key: told[key] for key in ("pid", "log") if key in told},
    )


def _speaker(run: Run, source: str) -> str:
    name = Node.objects.filter(pk=run.node_id).values_list("name", flat=True).first()
    return f"{source} on {name}" if name else source


def attempt_end(run: Run, attempt: int, ending: Ending, *, who: str, decides: bool = True) -> None:
    """Note how an attempt ended; the first word counts, host's later one adds what only it knows.

    Unless it `decides`, the run stays as it is until another word comes.
    """
    row = Attempt.objects.filter(run=run, number=attempt)
    row.filter(ended=None).update(ended=timezone.now(), cause=ending.cause, message=ending.message)
    members_end(run.pk, attempt)
    if ending.exit_code is not None:
        row.update(exit_code=ending.exit_code)
    if ending.host:
        row.update(host=ending.host)
    if decides and attempt == run.attempt and run.process in HELD:
        run_change(run, who=who, **_facts_of(run, ending))


def _facts_of(run: Run, ending: Ending) -> dict[str, Any]:
    """What the end of its attempt makes of the run, by what people want of it now."""
    if ending.state == "finished":
        return ended(ending.cause, ending.message)
    if ending.state == "failed" and run.desired == Desired.RUN:
        return failed(run, ending)
    if ending.state == "failed" and ending.cause not in FROM_OUTSIDE:
        return ended(ending.cause, ending.message)
    if run.desired == Desired.STOP:
        return ended("user", _both(run.reason, ending))
    if run.desired == Desired.PAUSE:
        return ended("paused", _both(run.reason, ending))
    if ending.cause == "fenced":
        return restarted(run, ending)
    if ending.state == "stopped" and ending.cause == "policy":
        return ended("policy", ending.message)
    # Nobody here asked for this end: a signal did, the machine goes down, or the store is away.
    # It costs no restart.
    cause = ending.cause if ending.cause in ("server-stopped", "store-away") else "preempted"
    return queued(cause, ending.message or "The trainer was ended by a signal.")


def _both(asked: str, ending: Ending) -> str:
    """Who asked; and what happened, when the trainer did not end as asked."""
    more = FORCED if ending.message.endswith(FORCE) else ""
    more = ending.message if ending.state == "failed" else more
    return f"{asked.rstrip('.')}. {more}".strip() if more else asked
