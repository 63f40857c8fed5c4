"""Checkpoints as people ask for them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Checkpoint, RegistryChange, Run
from orchestrator.selectors.checkpoint_search import Asked, checkpoints_matching
from orchestrator.selectors.externals import registered_shape
from orchestrator.selectors.reach import is_stored

CHANGES_MOST = 100


def checkpoints_list(
    *,
    run: Run | None = None,
    deleted: bool = False,
    asked: Asked | None = None,
    page: int = 1,
    per_page: int = 100,
) -> tuple[list[Checkpoint], int]:
    """One page of checkpoints, newest step first, and how many there are.

    Of one run, or of those that match `asked`.
    """
    if asked is None:
        asked = Asked(run=run.pk if run is not None else "", removed=deleted)
    found, _ = checkpoints_matching(asked)
    found = found.select_related("run", "run__owner")
    start = (page - 1) * per_page
    order = ("-step",) if asked.run else ("-created", "-step")
    return list(found.order_by(*order)[start : start + per_page]), found.count()


def checkpoint_get(checkpoint_id: str) -> Checkpoint | None:
    """One checkpoint with its run."""
    return Checkpoint.objects.select_related("run", "run__owner").filter(pk=checkpoint_id).first()


def changes_of(subject: str) -> list[RegistryChange]:
    """Who changed what of `checkpoint:ID` or `external:ID`, newest first."""
    found = RegistryChange.objects.filter(subject=subject)
    return list(found.order_by("-at", "-pk")[:CHANGES_MOST])


def change_shape(change: RegistryChange) -> dict[str, Any]:
    """A change as JSON."""
    return {
        "what": change.what,
        "old": change.old,
        "new": change.new,
        "by": change.by,
        "at": change.at,
        "why": change.why,
    }


def checkpoint_shape(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as JSON."""
    return {
        "id": checkpoint.pk,
        "run": checkpoint.run_id,
        "run_name": checkpoint.run.name,
        "attempt": checkpoint.attempt,
        "step": checkpoint.step,
        "path": checkpoint.path,
        "bytes": checkpoint.bytes,
        "sha256": checkpoint.sha256,
        "metrics": checkpoint.metrics,
        "final": checkpoint.final,
        "created": checkpoint.created.isoformat(),
        "deleted": checkpoint.deleted.isoformat() if checkpoint.deleted else None,
        "deleted_by": checkpoint.deleted_by,
        "leaves": len(checkpoint.leaves),
        "freed": checkpoint.freed,
        "stored": is_stored(checkpoint),
        **registered_shape(checkpoint),
    }
