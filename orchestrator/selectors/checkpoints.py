"""Checkpoints as people ask for them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Checkpoint, Run
from orchestrator.selectors.reach import is_stored


def checkpoints_list(
    *, run: Run | None = None, deleted: bool = False, page: int = 1, per_page: int = 100
) -> tuple[list[Checkpoint], int]:
    """One page of checkpoints, newest step first, and how many there are."""
    found = Checkpoint.objects.select_related("run", "run__owner")
    if run is not None:
        found = found.filter(run=run)
    if not deleted:
        found = found.filter(deleted=None)
    start = (page - 1) * per_page
    order = ("-step",) if run is not None else ("-created", "-step")
    return list(found.order_by(*order)[start : start + per_page]), found.count()


def checkpoint_get(checkpoint_id: str) -> Checkpoint | None:
    """One checkpoint with its run."""
    return Checkpoint.objects.select_related("run", "run__owner").filter(pk=checkpoint_id).first()


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
        "stored": is_stored(checkpoint),
    }
