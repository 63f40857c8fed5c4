"""What is protected of a run's checkpoints, as its node hears it."""

from __future__ import annotations

from orchestrator.models import Checkpoint
from orchestrator.models.registered import PROTECTED


def pins_of(run_id: str) -> list[int]:
    """Steps of the checkpoints that are pinned or approved, in order."""
    kept = Checkpoint.objects.filter(PROTECTED, run=run_id, deleted=None)
    return list(kept.order_by("step").values_list("step", flat=True))
