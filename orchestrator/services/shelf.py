"""Runs that are done with: archived, so that lists leave them out, or deleted, with what they took up freed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from orchestrator.models import ENDED, Checkpoint, Process, Removal, Run, State
from orchestrator.selectors.inputs import model_names
from orchestrator.services.checkpoint_copies import copies_remove
from orchestrator.services.facts import event_add, run_change, run_owned
from orchestrator.services.hints import hint
from trainer.disk import folders_remove, run_folders
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
    """Delete a run for good: rows here, files on the server's disk and on every node that worked on it.

    Returns what was freed here and what nodes have still to free. Raises ValueError for a run that lives
    or that another one still needs.
    """
    with transaction.atomic():
        run = run_owned(run_id, user)
        if not _is_over(run):
            raise ValueError(
                f"A run that lives is not deleted: this one is {run.state}. Stop it first."
            )
        if needed := _needed_by(run):
            names = ", ".join(str(one) for one in needed)
            raise ValueError(f"Still needed by {names}: stop them or wait until they have ended.")
        checkpoints = list(run.checkpoints.values_list("pk", flat=True))
        nodes: dict[str, Node] = {
            row.node.pk: row.node
            for row in run.attempts.select_related("node")
            if row.node is not None and not row.node.local and row.node.revoked is None
        }
        facts = {"run_id": run.pk, "name": run.name, "by": user.get_username()}
        found = [
            Removal(node=node, checkpoints=checkpoints, **facts) for node in (None, *nodes.values())
        ]
        _, rows = run.delete()
        found[0].rows = {name.rpartition(".")[2].lower(): count for name, count in rows.items()}
        Removal.objects.bulk_create(found)
        hint("run", run=facts["run_id"])
    _server_free(found[0])
    return found


def _server_free(removal: Removal) -> None:
    """Remove the files on the server's disk; only once the rows are gone for good."""
    folders = run_folders(settings.ANNEAL_DATA_DIR, removal.run_id, removal.checkpoints)
    freed = folders_remove(folders) + copies_remove(removal.run_id)
    removal.bytes, removal.done = freed, timezone.now()
    Removal.objects.filter(pk=removal.pk).update(bytes=freed, done=removal.done)


def removals_finish() -> None:
    """Free what a server that went down in the middle has left on its own disk."""
    for removal in Removal.objects.filter(node=None, done=None):
        _server_free(removal)


def removals_of(node: Node) -> list[dict[str, Any]]:
    """What a node has still to free: `{run, checkpoints}`."""
    asked = Removal.objects.filter(node=node, done=None).order_by("pk")
    return [{"run": one.run_id, "checkpoints": one.checkpoints} for one in asked]


def removal_report(*, node: Node, run_id: str, freed: int) -> bool:
    """Note what a node freed; False when nobody asked it to."""
    asked = Removal.objects.filter(node=node, run_id=run_id, done=None)
    return asked.update(done=timezone.now(), bytes=max(0, freed)) == 1


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
