"""Deleting checkpoints: from now on nobody uses them; their files go here, from the store and from nodes later.

`Checkpoint.leaves` says where files are still to be removed. The control worker does this server's part beside
deleted runs, the store keeper the store's, and a node hears of its own with a heartbeat. None of them touches a
run that goes on meanwhile: what its trainer finds on its disk is the trainer's.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from orchestrator.models import ENDED, Checkpoint, Member, Run
from orchestrator.selectors.checkpoint_needs import needs_of
from orchestrator.services.checkpoint_copies import MANIFEST, copy_folder, superseded_free
from orchestrator.services.dispatch import remove_soon
from orchestrator.services.facts import event_add
from orchestrator.services.hints import hint
from orchestrator.services.registry import change_note, checkpoint_locked, may_change_check
from trainer.disk import disk_bytes, folder_remove

if TYPE_CHECKING:
    from orchestrator.models import Node, User

SERVER, STORE = "server", "store"
AT_ONCE = 50
RELEASE_FIRST = "Unpin it, or give it another stage, first."


def checkpoint_delete(*, checkpoint_id: str, user: User, role: str | None = None) -> Checkpoint:
    """Delete a checkpoint: at once nobody can use it any more, its files follow.

    The same again for one that is deleted. Raises PermissionDenied, or ValueError for one that is pinned,
    approved or needed by a run that has not ended.
    """
    with transaction.atomic():
        checkpoint = checkpoint_locked(checkpoint_id)
        may_change_check(checkpoint, user, role)
        if checkpoint.deleted_by:
            return checkpoint
        if checkpoint.protection:
            raise ValueError(f"It is {checkpoint.protection}. {RELEASE_FIRST}")
        if why := needs_of([checkpoint]).get(checkpoint.pk):
            raise ValueError(f"It stays: {'; '.join(why)}.")
        delete_locked(checkpoint, who=user.get_username())
    return checkpoint


def delete_locked(checkpoint: Checkpoint, *, who: str, why: str = "") -> None:
    """Delete a checkpoint that is locked and may go; `why` names the rule behind it."""
    checkpoint.deleted = checkpoint.deleted or timezone.now()
    checkpoint.deleted_by, checkpoint.freed, checkpoint.stored = who, None, ""
    checkpoint.leaves = [SERVER, *_far_nodes(checkpoint)]
    if settings.ANNEAL_ARTIFACTS_URL:
        checkpoint.leaves.append(STORE)
    checkpoint.save(update_fields=["deleted", "deleted_by", "freed", "stored", "leaves"])
    change_note(checkpoint, "deleted", who=who, old=checkpoint.sha256, why=why)
    message = f"The checkpoint of step {checkpoint.step} was deleted by {who}"
    message = f"{message}: {why}" if why else f"{message}."
    event_add(checkpoint.run, "alert", level="info", code="checkpoint-deleted", message=message)
    hint("run", run=checkpoint.run_id)
    transaction.on_commit(remove_soon)


def _far_nodes(checkpoint: Checkpoint) -> list[str]:
    """Ids of the nodes with a disk of their own on which its attempt worked."""
    attempts = checkpoint.run.attempts.filter(number=checkpoint.attempt).select_related("node")
    further = Member.objects.filter(attempt__in=attempts).select_related("node")
    nodes = {one.node for one in (*attempts, *further) if one.node is not None}
    return sorted(node.pk for node in nodes if not node.local and node.revoked is None)


def checkpoint_removals_work() -> None:
    """Remove from this server's disk what was deleted."""
    asked = Checkpoint.objects.filter(leaves__contains=[SERVER]).order_by("deleted")
    for pk in list(asked.values_list("pk", flat=True)[:AT_ONCE]):
        # Counted first: whoever is killed in between counts nothing twice.
        if _step(pk, _count):
            _step(pk, _remove)


def _step(pk: str, work: Any) -> bool:
    """Do a part of one removal in one transaction; False when its run goes on, or somebody else is at it."""
    with transaction.atomic():
        found = Checkpoint.objects.filter(pk=pk, leaves__contains=[SERVER])
        run_id = found.values_list("run_id", flat=True).first()
        locked = Run.objects.select_for_update(no_key=True, skip_locked=True)
        run = locked.filter(pk=run_id, state__in=ENDED).first()
        row = found.select_for_update(skip_locked=True).first() if run is not None else None
        if row is None:
            return False
        work(row)
    return True


def _count(row: Checkpoint) -> None:
    if row.freed is None:
        folders = [copy_folder(row), *([_folder(row)] if _is_it(_folder(row), row) else [])]
        row.freed = sum(map(disk_bytes, folders))
        row.save(update_fields=["freed"])


def _remove(row: Checkpoint) -> None:
    if _is_it(_folder(row), row):
        folder_remove(_folder(row))
    superseded_free(row.run_id)
    checkpoint_left(row.pk, SERVER, 0)
    hint("run", run=row.run_id)


def _folder(row: Checkpoint) -> Path:
    return Path(settings.ANNEAL_DATA_DIR) / "runs" / row.run_id / row.path


def _is_it(folder: Path, row: Checkpoint) -> bool:
    """Whether the folder holds this very checkpoint: a later attempt may have saved the step again."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
    except OSError:
        return False
    return hashlib.sha256(manifest).hexdigest() == row.sha256


def checkpoint_left(checkpoint_id: str, place: str, freed: int) -> bool:
    """Note that a checkpoint's files are gone from a place; False when nobody asked for it."""
    with transaction.atomic():
        asked = Checkpoint.objects.select_for_update().filter(
            pk=checkpoint_id, leaves__contains=[place]
        )
        row = asked.first()
        if row is None:
            return False
        row.leaves = [one for one in row.leaves if one != place]
        row.freed = (row.freed or 0) + max(0, freed)
        row.save(update_fields=["leaves", "freed"])
    return True


def drops_of(node: Node) -> list[dict[str, Any]]:
    """The deleted checkpoints that a node has still to remove from its disk."""
    asked = Checkpoint.objects.filter(leaves__contains=[node.pk], run__state__in=ENDED)
    fields = ("pk", "run_id", "path", "sha256")
    names = ("checkpoint", "run", "path", "sha256")
    found = asked.order_by("deleted").values_list(*fields)[:AT_ONCE]
    return [dict(zip(names, row, strict=True)) for row in found]
