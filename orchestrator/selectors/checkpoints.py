"""Checkpoints as people ask for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, External, RegistryChange, Run
from orchestrator.selectors.checkpoint_search import Asked, checkpoints_matching
from orchestrator.selectors.externals import registered_shape
from orchestrator.selectors.reach import is_stored
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

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


def oldest_first(names: Iterable[str]) -> list[str]:
    """`checkpoint:ID` and `external:ID` in the order in which they were saved or registered."""
    wanted = list(dict.fromkeys(names))
    made: dict[str, datetime] = {}
    for model, prefix in ((Checkpoint, CHECKPOINT_PREFIX), (External, EXTERNAL_PREFIX)):
        pks = [name.removeprefix(prefix) for name in wanted if name.startswith(prefix)]
        rows = model.objects.filter(pk__in=pks).values_list("pk", "created")
        made |= {f"{prefix}{pk}": created for pk, created in rows}
    return sorted((name for name in wanted if name in made), key=lambda name: made[name])
