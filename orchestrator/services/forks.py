"""New runs from old ones: the same spec once more, or on from a checkpoint with changed knobs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, Run
from orchestrator.services.runs import run_create
from trainer.spec import CHECKPOINT_PREFIX
from trainer.specfile import set_path

if TYPE_CHECKING:
    from orchestrator.models import User


def run_clone(*, run_id: str, user: User, changes: dict[str, Any], name: str = "") -> Run:
    """Launch a run's spec again with changes by path (`optimizer.lr`). Raises SpecError."""
    parent = _parent(run_id)
    return _launch(parent, user, copy.deepcopy(parent.spec), changes, name or parent.name)


def run_fork(
    *, run_id: str, checkpoint: str, user: User, changes: dict[str, Any], name: str = ""
) -> Run:
    """Launch a new run that starts from the weights of one of this run's checkpoints.

    Raises ValueError for a checkpoint that is not this run's or is gone, SpecError for bad changes.
    """
    parent = _parent(run_id)
    found = Checkpoint.objects.filter(pk=checkpoint, run=parent, deleted=None).first()
    if found is None:
        raise ValueError(f"Run {parent} has no checkpoint {checkpoint}, or its files were removed.")
    spec = copy.deepcopy(parent.spec)
    # What was trained already is in the weights: no warm-up again.
    spec["model"] |= {"name": f"{CHECKPOINT_PREFIX}{found.pk}", "warm_start": ""}
    return _launch(parent, user, spec, changes, name or f"{parent.name}-from-{found.step}")


def _parent(run_id: str) -> Run:
    parent = Run.objects.filter(pk=run_id).first()
    if parent is None:
        raise ValueError(f"There is no run {run_id}.")
    return parent


def _launch(
    parent: Run, user: User, spec: dict[str, Any], changes: dict[str, Any], name: str
) -> Run:
    for path, value in changes.items():
        set_path(spec, path, value)
    return run_create(
        owner=user,
        spec=spec,
        name=name[:120],
        tags=parent.tags,
        priority=parent.priority,
        preemptible=parent.preemptible,
        max_restarts=parent.max_restarts,
        recipe=parent.recipe,
    )
