"""Runs that are done with: archived, so that lists leave them out, or deleted, with what they took up freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from orchestrator.models import ENDED, Checkpoint, Member, Process, Removal, Run, State
from orchestrator.models.registered import PROTECTED
from orchestrator.selectors.inputs import model_names
from orchestrator.services.checkpoint_removals import RELEASE_FIRST
from orchestrator.services.dispatch import remove_soon
from orchestrator.services.facts import event_add, run_change, run_owned
from orchestrator.services.hints import hint
from trainer.spec import CHECKPOINT_PREFIX, RUN_PREFIX

if TYPE_CHECKING:
    from orchestrator.models import Node, User

HELD = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)


def run_archive(*, run_id: str, user: User) -> Run:
    """Leave a run that has ended out of lists. Raises ValueError for one that goes on."""
    with transaction.atomic():
        run = run_owned(run_id, user)
        if not _is_over(run):
            raise ValueError(f"Only a run that has ended can be archived; this one is {run.state}.")
        if run.archived is None:
            _archived_set(run, user, timezone.now())
    return run


def run_unarchive(*, run_id: str, user: User) -> Run:
    """Put a run back into lists."""
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.archived is not None:
            _archived_set(run, user, None)
    return run


def _archived_set(run: Run, user: User, moment: Any) -> None:
    run_change(run, who=user.get_username(), archived=moment)
    words = "put back" if moment is None else "archived"
    event_add(run, "shelf", message=words, by=user.get_username())
    hint("run", run=run.pk)


def run_delete(*, run_id: str, user: User) -> list[Removal]:
    """Ask for a run to be deleted for good: its rows, and its files here and on every node that worked on it.

    From now on lists leave it out and nothing changes it; the control worker does the rest (`removals`).
    Returns what is asked, one of it for each disk; the same again for a run that is being deleted already.
    Raises ValueError for a run that lives, that another one still needs, or of which a checkpoint is pinned.
    """
    with transaction.atomic():
        run = run_owned(run_id, user, deleted=True)
        if asked := list(Removal.objects.filter(run_id=run_id).order_by("pk")):
            return asked
        if not _is_over(run):
            raise ValueError(
                f"A run that lives is not deleted: this one is {run.state}. Stop it first."
            )
        if needed := _needed_by(run):
            names = ", ".join(str(one) for one in needed)
            raise ValueError(f"Still needed by {names}: stop them or wait until they have ended.")
        there = Q(deleted=None) | Q(stored=F("sha256"))
        if (kept := run.checkpoints.filter(PROTECTED, there).order_by("step").first()) is not None:
            raise ValueError(
                f"Its checkpoint of step {kept.step} is {kept.protection}. {RELEASE_FIRST}"
            )
        checkpoints = list(run.checkpoints.values_list("pk", flat=True))
        further = Member.objects.filter(attempt__run=run).select_related("node")
        nodes: dict[str, Node] = {
            row.node.pk: row.node
            for row in (*run.attempts.select_related("node"), *further)
            if row.node is not None and not row.node.local and row.node.revoked is None
        }
        facts = {"run_id": run.pk, "name": run.name, "by": user.get_username()}
        found = Removal.objects.bulk_create(
            Removal(node=node, checkpoints=checkpoints, **facts) for node in (None, *nodes.values())
        )
        reason = f"Being deleted, as {user.get_username()} asked: its rows and files go bit by bit."
        run_change(run, who=user.get_username(), archived=timezone.now(), reason=reason)
        hint("run", run=run.pk)
        transaction.on_commit(remove_soon)
    return found


def _is_over(run: Run) -> bool:
    lost = run.state == State.LOST and run.process == Process.EXITED
    return (run.state in ENDED or run.state == State.DRAFT or lost) and run.process not in HELD


def _needed_by(run: Run) -> list[Run]:
    """Runs that have not ended and start from this one or one of its checkpoints, or compare with it."""
    names = {f"{RUN_PREFIX}{run.pk}"}
    kept = Checkpoint.objects.filter(run=run).values_list("pk", flat=True)
    names |= {f"{CHECKPOINT_PREFIX}{pk}" for pk in kept}
    going_on = Run.objects.exclude(state__in=ENDED).exclude(pk=run.pk)
    return [one for one in going_on if names & set(model_names(one.spec))]
