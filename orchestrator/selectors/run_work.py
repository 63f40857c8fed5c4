"""What a run does that trains nothing: an evaluation, for whom and of what; a playground."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.models import ArmRun, Question
from orchestrator.selectors.playgrounds import KIND, model_shape, playground_shape

if TYPE_CHECKING:
    from orchestrator.models import Run

PURPOSES = {
    "answers": "It answers prompts",
    "readings": "It reads the other models' answers, token by token,",
    "judge": "It asks a judge which of two answers is better",
}
_OF_DATASET = re.compile(r"eval/[a-z2-7]{12}/")
HIDDEN = {
    "evaluate": {"steer", "checkpoints"},
    KIND: {"metrics", "rollouts", "steer", "checkpoints"},
}
"""By kind of run the tabs that would be empty for good."""


def work_of(run: Run) -> dict[str, Any] | None:
    """What its page says instead of a training's charts; None for a training."""
    if run.kind == KIND:
        asked = Question.objects.filter(run=run)
        return {
            "kind": KIND,
            "shape": playground_shape(run),
            "asked": asked.count(),
            "answered": asked.exclude(answered=None).count(),
        }
    if run.kind != "evaluate":
        return None
    tie = ArmRun.objects.select_related("arm__comparison").filter(run=run).first()
    purpose = tie.purpose if tie is not None else "answers"
    values = {
        key: value
        for key, value in run.latest.items()
        # Those by source say the same again where the source is the run's own file.
        if key.startswith("eval/") and not _OF_DATASET.match(key)
    }
    return {
        "kind": "evaluate",
        "words": PURPOSES.get(purpose, PURPOSES["answers"]),
        "comparison": tie.arm.comparison if tie is not None else None,
        "arm": tie.arm.name if tie is not None and purpose != "judge" else "",
        "model": model_shape(run.spec.get("model", {}).get("name", ""), ""),
        "loads": purpose != "judge",
        "values": sorted(values.items()),
    }
