"""Giving way: a run at work that allows it is asked to save a checkpoint and go back into the queue."""

from __future__ import annotations

from django.db import transaction

from orchestrator.models import Desired, Process, Run
from orchestrator.services.facts import SCHEDULER, event_add, run_change, run_locked
from orchestrator.services.hints import hint

HELD = (Process.CLAIMED, Process.ALIVE)


def run_give_way(*, run_id: str, to: Run) -> bool:
    """Ask a run to leave for one of higher priority; False when it is not to be asked (any more)."""
    with transaction.atomic():
        asked = Run.objects.filter(
            pk=run_id,
            process__in=HELD,
            desired=Desired.RUN,
            preemptible=True,
            priority__lt=to.priority,
            leaves_for="",
        ).update(leaves_for=to.pk)
        if asked != 1:
            return False
        run = run_locked(run_id)
        reason = f"Makes way for {to} of priority {to.priority}: saves a checkpoint, goes on later."
        run_change(run, who=SCHEDULER, reason=reason)
        event_add(run, "alert", level="info", code="gives-way", message=reason)
        hint("want", run=run.pk)
    return True


def run_stay(*, run_id: str) -> bool:
    """Take the question back: there is room elsewhere, or nobody waits for it any more."""
    with transaction.atomic():
        run = run_locked(run_id)
        if not run.leaves_for:
            return False
        run_change(run, who=SCHEDULER, leaves_for="", reason="")
        hint("want", run=run.pk)
    return True
