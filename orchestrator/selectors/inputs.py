"""What a spec names by id, and where it lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from orchestrator.models import ENDED, Checkpoint, Dataset, Run
from orchestrator.selectors.externals import (
    external_named,
    external_names,
    external_place,
    models_of,
)
from trainer.spec import CHECKPOINT_PREFIX, RUN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import Node


def final_checkpoint(run: Run) -> Checkpoint | None:
    """What a finished run hands to its followers."""
    kept = Checkpoint.objects.filter(run=run, deleted=None)
    return kept.filter(final=True).order_by("-step").first() or kept.order_by("-step").first()


def inputs_of(run: Run) -> dict[str, Any]:
    """Where the checkpoints, external models and datasets that the spec names by id are to be had."""
    models: dict[str, Any] = {}
    for name in model_names(run.spec):
        if found := checkpoint_named(name):
            models[name] = checkpoint_place(found)
    for name in external_names(run.spec):
        if external := external_named(name):
            models[name] = external_place(external)
    wanted = {source["source"] for source in data_sources(run.spec)}
    datasets = {
        one.pk: {"sha256": one.sha256, "filename": one.filename, "mapping": one.mapping}
        for one in Dataset.objects.filter(pk__in=wanted)
    }
    return {"models": models, "datasets": datasets}


def model_names(spec: dict[str, Any]) -> list[str]:
    """The models that a spec names by id: `run:ID` and `checkpoint:ID`."""
    names = models_of(spec).values()
    return [name for name in names if name.startswith((RUN_PREFIX, CHECKPOINT_PREFIX))]


def parents_named(spec: dict[str, Any]) -> list[str]:
    """The runs whose final checkpoints a spec names."""
    names = [name for name in model_names(spec) if name.startswith(RUN_PREFIX)]
    return sorted({name.removeprefix(RUN_PREFIX) for name in names})


def data_sources(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every source of rows in a spec."""
    data = spec.get("data", {})
    return [*data.get("train", []), *data.get("eval", [])]


def checkpoint_named(name: str) -> Checkpoint | None:
    """The checkpoint that `run:ID` or `checkpoint:ID` stands for, if it is there."""
    if name.startswith(RUN_PREFIX):
        run = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
        return final_checkpoint(run) if run else None
    pk = name.removeprefix(CHECKPOINT_PREFIX)
    return Checkpoint.objects.filter(pk=pk, deleted=None).first()


def needed_still(checkpoints: Iterable[str], datasets: Iterable[str]) -> dict[str, list[str]]:
    """Of these checkpoints (ids) and data sets (SHA-256) the ones that a run that has not ended names."""
    models: set[str] = set()
    sources: set[str] = set()
    for spec in Run.objects.exclude(state__in=ENDED).values_list("spec", flat=True):
        models.update(model_names(spec))
        sources.update(source.get("source", "") for source in data_sources(spec))
    named = {found.pk for name in models if (found := checkpoint_named(name)) is not None}
    hashes = Dataset.objects.filter(pk__in=sources).values_list("sha256", flat=True)
    return {
        "checkpoints": sorted(named & set(checkpoints)),
        "datasets": sorted(set(hashes) & set(datasets)),
    }


def checkpoint_place(checkpoint: Checkpoint | None) -> dict[str, Any] | None:
    """What a node needs to find or fetch a checkpoint."""
    if checkpoint is None:
        return None
    return {
        "checkpoint": checkpoint.pk,
        "run": checkpoint.run_id,
        "step": checkpoint.step,
        "path": checkpoint.path,
        "sha256": checkpoint.sha256,
        "key": store_key(checkpoint),
        "in_store": bool(checkpoint.stored) and checkpoint.stored == checkpoint.sha256,
    }


def run_key(run_id: str) -> str:
    """Below what key everything of a run lies in the artifact store."""
    return f"checkpoints/{run_id}"


def store_key(checkpoint: Checkpoint) -> str:
    """Below what key a checkpoint lies in the artifact store; "" when server and nodes share none."""
    if not settings.ANNEAL_ARTIFACTS_URL:
        return ""
    return f"{run_key(checkpoint.run_id)}/{checkpoint.step}-{checkpoint.sha256[:16]}"


def holder_of(checkpoint: Checkpoint) -> Node | None:
    """The node whose disk holds a checkpoint."""
    attempt = (
        checkpoint.run.attempts.select_related("node").filter(number=checkpoint.attempt).first()
    )
    return attempt.node if attempt else None
