"""Which checkpoints stay: the newest, the best, every so many steps, pinned ones; and which one is the best."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from trainer.engine import checkpoint
from trainer.metrics import lower_is_better
from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.rundir import RunDir
    from trainer.spec import CheckpointPolicy

BEST = "best.json"
"""Beside the checkpoints: {"step", "path", "metric", "value"} of the best one that is kept."""


def prune(run: RunDir, policy: CheckpointPolicy, *, metric: str, step: int) -> list[int]:
    """Remove the checkpoints up to `step` that no rule keeps and nobody pinned; return their steps.

    A pinned one is kept beside the others and takes nobody's place. Later ones can only be left from an attempt
    whose newest checkpoint was damaged: they keep nothing else from being kept, and stay until they are
    written again.
    """
    steps = [found for found in run.checkpoint_steps() if found <= step]
    kept = set(steps[-policy.keep_last :])
    if policy.keep_every:
        kept |= {found for found in steps if found % policy.keep_every == 0}
    kept |= {found for _, found in ranking(run, metric)[: policy.keep_best]}
    try:
        # Read last: a pin may have come while the newest one was written.
        kept |= run.pins()
    except ValueError:
        # Nobody knows what is pinned: better too many than one too few.
        kept |= set(steps)
    removed = [found for found in steps if found not in kept]
    for found in removed:
        checkpoint.remove(run.checkpoint(found))
    _note_best(run, metric)
    return removed


def ranking(run: RunDir, metric: str) -> list[tuple[float, int]]:
    """(value, step) of every checkpoint that was measured, the best first; ties go to the newer one."""
    found: list[tuple[float, int]] = []
    for step in run.checkpoint_steps():
        metrics = checkpoint.manifest_of(run.checkpoint(step)).get("metrics")
        value = metrics.get(metric) if isinstance(metrics, dict) else None
        if isinstance(value, (int, float)) and value == value:
            found.append((value, step))
    sign = 1 if lower_is_better(metric) else -1
    return sorted(found, key=lambda one: (sign * one[0], -one[1]))


def best_of(run: RunDir) -> Path | None:
    """The best checkpoint that is kept, or None when none was measured."""
    try:
        folder = run.checkpoint(int(json.loads((run.checkpoints / BEST).read_text())["step"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return folder if folder.is_dir() else None


def _note_best(run: RunDir, metric: str) -> None:
    ranked = ranking(run, metric)
    if not ranked:
        return
    value, step = ranked[0]
    note = {"step": step, "path": f"step-{step}", "metric": metric, "value": value}
    write_atomic(run.checkpoints / BEST, json.dumps(note))
