"""What people want of a run, as its node hears it with every answer."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Attempt, Desired, Member, Process, Question, Run
from orchestrator.models.restart_policy import policy_stored
from trainer.play import OPEN_MOST

SERVER = "server"
"""`desired_by` of a stop that the server itself asked for, because it goes down."""

NOTHING: dict[str, Any] = {"knobs": {}, "asks": {}, "on_stall": "tell"}


HELD = (Process.CLAIMED, Process.ALIVE)


def is_given_up(run: Run, attempt: int) -> bool:
    """Whether an attempt was taken for lost and speaks again, before another one has taken over.

    The run waits, or has ended, and is shown so: what still trains must end for that to be true.
    """
    if attempt != run.attempt or run.process in HELD:
        return False
    mine = Attempt.objects.filter(run_id=run.pk, number=attempt).exclude(ended=None)
    # Or a further machine of it could not begin, of which the first one knows nothing.
    given_up = Member.objects.filter(attempt__in=mine).exclude(cause="")
    return mine.filter(cause="node-lost").exists() or given_up.exists()


def requests_of(run: Run) -> list[dict[str, Any]]:
    """What a playground was asked and has not answered, oldest first, as its trainer reads it."""
    found = Question.objects.filter(run=run, answered=None).order_by("pk")
    return [{"id": pk, **body} for pk, body in found.values_list("pk", "body")[:OPEN_MOST]]


def want_of(run: Run, attempt: int) -> dict[str, Any]:
    """The order for one attempt: run, pause or stop; who asked; knobs to change; what to do at once and at
    a stall."""
    if attempt < run.attempt:
        message = f"attempt {run.attempt} has taken over"
        return {"want": str(Desired.STOP), "cause": "fenced", "message": message} | NOTHING
    if is_given_up(run, attempt):
        message = "it was given up as lost, and the run goes on without it"
        return {"want": str(Desired.STOP), "cause": "fenced", "message": message} | NOTHING
    live = {"knobs": run.knobs, "asks": run.asks, "on_stall": policy_stored(run.policy).on_stall}
    if run.kind == "play":
        live["requests"] = requests_of(run)
    if run.leaves_for and run.desired == Desired.RUN:
        message = f"Made way for run {run.leaves_for}; goes on from its checkpoint."
        return {"want": str(Desired.STOP), "cause": "preempted", "message": message} | live
    cause = "server-stopped" if run.desired_by == SERVER else "user"
    message = run.reason if run.desired != Desired.RUN else ""
    return {"want": str(run.desired), "cause": cause, "message": message} | live
