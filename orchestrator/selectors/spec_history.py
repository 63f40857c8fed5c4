"""What finished runs like this one took: the only honest basis for a forecast of time and memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, Run, State
from orchestrator.selectors.spec_arithmetic import tokens_per_step
from trainer.spec import SpecError, spec_parse

if TYPE_CHECKING:
    from trainer.spec import RunSpec

_LOOKED_AT = 20
_ALIKE = 4.0
"""Runs whose steps are up to this many times larger or smaller say something about time."""


def similar_run(spec: RunSpec) -> dict[str, Any]:
    """What the newest finished run of this model and objective took, scaled; {} for none."""
    finished = Run.objects.filter(
        state=State.FINISHED, started__isnull=False, ended__isnull=False, step__gt=0
    )
    tag = getattr(spec.objective, "type", "")
    for run in finished.order_by("-ended")[:_LOOKED_AT]:
        try:
            other = spec_parse(run.spec)
        except SpecError:
            continue
        if (other.model, other.adapter) != (spec.model, spec.adapter):
            continue
        if getattr(other.objective, "type", "") == tag and other.kind == spec.kind:
            found = _scaled(run, other, spec)
            if found:
                return found
    return {}


def _scaled(run: Run, other: RunSpec, spec: RunSpec) -> dict[str, Any]:
    ratio = tokens_per_step(spec) / max(1, tokens_per_step(other))
    if not 1 / _ALIKE <= ratio <= _ALIKE or not spec.budget.max_steps:
        return {}
    assert run.started is not None and run.ended is not None
    seconds = (run.ended - run.started).total_seconds()
    memory = run.latest.get("rss_mb")
    return {
        "run": run,
        "seconds": seconds / run.step * ratio * spec.budget.max_steps,
        "memory_mb": float(memory) if isinstance(memory, (int, float)) else None,
        "took": seconds,
        "disk": _disk(run, spec),
        "scaled": abs(ratio - 1) > 0.05 or run.step != spec.budget.max_steps,
    }


def _disk(run: Run, spec: RunSpec) -> int | None:
    """Bytes of the checkpoints that are kept at the end, each as large as the newest of `run`."""
    newest = Checkpoint.objects.filter(run=run).order_by("-created").first()
    if newest is None:
        return None
    policy, kept = spec.checkpoint, 1
    if policy.every_steps:
        made = math.ceil(spec.budget.max_steps / policy.every_steps)
        kept = min(made, policy.keep_last + (policy.keep_best if spec.data.eval else 0))
    return int(newest.bytes * max(1, kept))
