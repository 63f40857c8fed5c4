"""The starter pipeline: imitation first, then a reward that lifts what imitation learned."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.services.runs import run_create
from trainer.recipebook import recipe_find, recipe_read
from trainer.spec import RUN_PREFIX

if TYPE_CHECKING:
    from orchestrator.models import Run, User

FIRST, SECOND = "noisy_sort_sft", "noisy_sort_grpo"


def demo_launch(*, owner: User) -> list[Run]:
    """Launch both runs; the second waits for the first one's final checkpoint."""
    first = run_create(owner=owner, spec=_spec(FIRST), tags=["demo"], recipe=FIRST)
    spec = _spec(SECOND)
    spec["model"] = {**spec.get("model", {}), "name": f"{RUN_PREFIX}{first.pk}", "warm_start": ""}
    return [first, run_create(owner=owner, spec=spec, tags=["demo"], recipe=SECOND)]


def _spec(recipe: str) -> dict[str, Any]:
    return recipe_read(recipe_find(recipe)).spec
