"""New runs from old ones: the same spec once more, or on from a checkpoint with changed knobs."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, Run
from orchestrator.selectors.forks import fork_name, fork_spec
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.services.runs import run_create
from trainer.specfile import set_path

if TYPE_CHECKING:
    from orchestrator.models import User


def run_clone(*, run_id: str, user: User, changes: dict[str, Any], name: str = "") -> Run:
    """Launch a run's spec again with changes by path (`optimizer.lr`). Raises SpecError."""
    parent = _parent(run_id)
    return _launch(parent, user, copy.deepcopy(parent.spec), changes, name or parent.name)


def run_fork(
    *,
    run_id: str,
    user: User,
    changes: dict[str, Any],
    checkpoint: str = "",
    step: int | None = None,
    name: str = "",
) -> Run:
    """Launch a new run from the weights of one of this run's checkpoints, named by its id or its step.

    Raises ValueError for a checkpoint that is not this run's or is gone, SpecError for bad changes.
    """
    parent = _parent(run_id)
    found = _checkpoint(parent, checkpoint, step)
    spec = fork_spec(found)
    return _launch(parent, user, spec, changes, name or fork_name(found), found)


def _checkpoint(parent: Run, checkpoint: str, step: int | None) -> Checkpoint:
    kept = Checkpoint.objects.select_related("run").filter(run=parent, deleted=None)
    if bool(checkpoint) == (step is not None):
        raise ValueError("checkpoint, step: give one of them, to say where to fork from")
    found = kept.filter(pk=checkpoint) if checkpoint else kept.filter(step=step)
    if (one := found.first()) is not None:
        return one
    if checkpoint:
        raise ValueError(f"Run {parent} has no checkpoint {checkpoint}, or its files were removed.")
    steps = ", ".join(map(str, kept.order_by("step").values_list("step", flat=True)))
    raise ValueError(
        f"step: run {parent} has no checkpoint of step {step}; it has {steps or 'none'}"
    )


def _parent(run_id: str) -> Run:
    parent = Run.objects.filter(pk=run_id).first()
    if parent is None:
        raise ValueError(f"There is no run {run_id}.")
    if is_being_deleted(run_id):
        raise ValueError(f"Run {parent} is being deleted.")
    return parent


def _launch(
    parent: Run,
    user: User,
    spec: dict[str, Any],
    changes: dict[str, Any],
    name: str,
    forked: Checkpoint | None = None,
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
        policy=parent.policy,
        recipe=parent.recipe,
        parent=forked,
    )
