"""What specs name by id, and who still needs it."""

from __future__ import annotations

from orchestrator.models import Dataset
from orchestrator.selectors.inputs import needed_still
from orchestrator.services.runs import run_stop


def test_what_is_needed_still_is_what_runs_that_have_not_ended_name(launch, ended, ada):
    parent = ended(name="parent")
    kept = parent.checkpoints.get()
    data = Dataset.objects.create(
        name="d",
        owner=ada,
        filename="d.jsonl",
        sha256="d" * 64,
        bytes=1,
        rows=1,
        columns=["prompt"],
    )
    asked = {"checkpoints": [kept.pk, "x" * 12], "datasets": ["d" * 64, "e" * 64]}
    assert needed_still(**asked) == {"checkpoints": [], "datasets": []}
    child = launch(
        "child", model={"name": f"run:{parent.pk}"}, data={"train": [{"source": data.pk}]}
    )
    assert needed_still(**asked) == {"checkpoints": [kept.pk], "datasets": ["d" * 64]}
    assert needed_still([], []) == {"checkpoints": [], "datasets": []}
    run_stop(run_id=child.pk, user=ada)
    assert needed_still(**asked) == {"checkpoints": [], "datasets": []}
