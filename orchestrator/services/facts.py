"""Change the facts of a run: its shown state follows, the change is an event, browsers are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.utils import timezone

from orchestrator.models import ENDED, Event, Role, Run
from orchestrator.models.contact import state_now
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.services.hints import hint

if TYPE_CHECKING:
    from orchestrator.models import User

SCHEDULER = "scheduler"


def run_locked(run_id: str) -> Run:
    """The run's row, locked until the transaction ends. Raises ValueError when there is none."""
    try:
        return Run.objects.select_for_update(no_key=True).get(pk=run_id)
    except Run.DoesNotExist:
        raise ValueError(f"There is no run {run_id}.") from None


def run_owned(run_id: str, user: User, *, deleted: bool = False) -> Run:
    """The run's row, locked, when this person may change it. Raises PermissionDenied.

    Unless `deleted`, raises ValueError for a run that is being deleted: nothing changes it any more.
    """
    run = run_locked(run_id)
    if run.owner_id != user.pk and not user.has_role(Role.ADMIN):
        raise PermissionDenied("Only its owner or an admin may change a run.")
    if not deleted and is_being_deleted(run_id):
        raise ValueError("The run is being deleted.")
    return run


def run_change(run: Run, *, who: str, **facts: Any) -> bool:
    """Set facts of a run that is locked; False when that changed nothing.

    State and end follow from the facts. A new state or reason becomes an event by `who`.
    """
    before = {name: getattr(run, name) for name in (*facts, "state", "ended")}
    old_state, old_reason = run.state, run.reason
    for name, value in facts.items():
        setattr(run, name, value)
    run.state = state_now(run)
    if run.state in ENDED:
        run.ended = run.ended or timezone.now()
    else:
        run.ended = None
    changed = [name for name, value in before.items() if getattr(run, name) != value]
    if not changed:
        return False
    run.save(update_fields=changed)
    # Why a run waits changes often, and is shown with it; only its state makes history then.
    moved = run.state != old_state
    if moved or (run.reason != old_reason and who != SCHEDULER):
        said = {"state": str(run.state), "was": str(old_state), "reason": run.reason, "by": who}
        event_add(run, "status", **said, cause=run.cause)
    if moved or run.reason != old_reason:
        hint("run", run=run.pk)
    return True


def event_add(run: Run, type: str, **data: Any) -> None:
    """Note something that the server did to a run."""
    Event.objects.create(
        run=run,
        attempt=run.attempt,
        source="server",
        time=timezone.now(),
        type=type,
        data=data,
    )
