"""Why a run is shown in its state: one sentence from its five facts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils import timezone

from orchestrator.models import Desired, Process
from orchestrator.models.contact import GRACE, LEASE, in_contact, state_now

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.models import Run

WANTED = {
    Desired.RUN: "it is to run",
    Desired.PAUSE: "it is to pause",
    Desired.STOP: "it is to stop",
}
PROCESS = {
    Process.NONE: "no attempt is under way",
    Process.DISPATCHED: "an order is on its way to a node and nobody has claimed it yet",
    Process.CLAIMED: "a node has claimed it and its trainer is not at work yet",
    Process.ALIVE: "its trainer is at work",
    Process.EXITED: "its last attempt has ended",
}
HELD = (Process.CLAIMED, Process.ALIVE)


def state_why(run: Run, now: datetime | None = None) -> str:
    """One sentence: the state, and the facts that make it so."""
    now = now or timezone.now()
    state = str(state_now(run, now)).capitalize()
    process = PROCESS[Process(run.process)]
    if run.process == Process.EXITED:
        return f"{state}: {process} with the cause “{run.cause or 'unknown'}”."
    wanted = WANTED[Desired(run.desired)]
    if run.process not in HELD:
        return f"{state}: {process}, and {wanted}."
    return f"{state}: {process}, {wanted}, and {_contact(run, now)}."


def _contact(run: Run, now: datetime) -> str:
    limit = (LEASE + GRACE).total_seconds()
    if run.last_contact is None:
        return "nothing of this attempt has spoken yet, so no silence counts against it"
    silence = max(0.0, (now - run.last_contact).total_seconds())
    if in_contact(run, now):
        return (
            f"it was last heard {silence:.0f} s ago, within the {limit:.0f} s that its lease allows"
        )
    return f"nothing of it was heard for {silence:.0f} s, longer than the {limit:.0f} s that its lease allows"
