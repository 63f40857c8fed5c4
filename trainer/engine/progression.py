"""How long a run is, and how far it has come."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.spec import RunSpec


def total_steps(spec: RunSpec, rows: int, updates: int) -> int:
    """Optimizer steps until the first limit; 0 when only time limits the run.

    `rows` are those of an epoch; `updates` the optimizer steps on each batch of prompts.
    """
    budget = spec.budget
    limits = [budget.max_steps] if budget.max_steps else []
    if budget.max_epochs:
        batches = math.ceil(budget.max_epochs * rows / spec.batch.prompts_per_step)
        limits.append(max(1, batches) * updates)
    return min(limits, default=0)


def share_done(step: int, total: int) -> float:
    """The share of the run behind `step`, in [0, 1]; 0 where only time limits the run."""
    return min(1.0, step / total) if total else 0.0


def repeatable(values: Mapping[str, float]) -> dict[str, float]:
    """Of what a step measured: the finite numbers that are the same whenever it is done again."""
    return {
        key: value
        for key, value in values.items()
        if math.isfinite(value) and not key.startswith("tokens/")
    }
