"""What people want of a run, as its node hears it with every answer."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Desired, Run
from orchestrator.models.restart_policy import policy_stored

SERVER = "server"
"""`desired_by` of a stop that the server itself asked for, because it goes down."""

NOTHING: dict[str, Any] = {"knobs": {}, "asks": {}, "on_stall": "tell"}


def want_of(run: Run, attempt: int) -> dict[str, Any]:
    """The order for one attempt: run, pause or stop; who asked; knobs to change; what to do at once and at
    a stall."""
    if attempt < run.attempt:
        message = f"attempt {run.attempt} has taken over"
        return {"want": str(Desired.STOP), "cause": "fenced", "message": message} | NOTHING
    live = {"knobs": run.knobs, "asks": run.asks, "on_stall": policy_stored(run.policy).on_stall}
    if run.leaves_for and run.desired == Desired.RUN:
        message = f"Made way for run {run.leaves_for}; goes on from its checkpoint."
        return {"want": str(Desired.STOP), "cause": "preempted", "message": message} | live
    cause = "server-stopped" if run.desired_by == SERVER else "user"
    message = run.reason if run.desired != Desired.RUN else ""
    return {"want": str(run.desired), "cause": cause, "message": message} | live
