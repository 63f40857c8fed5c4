"""What several training processes cannot do together: refused before anything runs, each with a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.spec import RunSpec

LEARNS_FROM = ("rollouts", "pairs", "demonstrations", "labels")


def evaluation_problems(spec: RunSpec) -> Iterator[str]:
    """An evaluation alone has no step to share."""
    if spec.resources.world > 1:
        yield f"resources.{_named(spec)}: an evaluation runs in one process; ask for one"


def processes_problems(spec: RunSpec) -> Iterator[str]:
    """One sentence per contradiction, each begins with the field."""
    resources = spec.resources
    if resources.processes > 1 and resources.gpus not in (0, resources.processes):
        yield (
            f"resources.processes: on GPUs there is one process per GPU, and gpus is {resources.gpus}; set "
            f"gpus to 0 for {resources.processes} processes on the CPU, or set this to 0"
        )
    if resources.processes == 1 and isinstance(resources.gpus, int) and resources.gpus > 1:
        yield "resources.processes: one process uses one GPU; set gpus to 1, or this to 0"
    if resources.world == 1:
        if resources.sharding != "none":
            yield (
                "resources.sharding: one process has nobody to share the model with; set it to none, or ask for "
                "several GPUs or processes"
            )
        return
    yield from _of_the_method(spec)
    yield from _of_the_place_of_sampling(spec)
    yield from _of_the_batch(spec)
    if resources.sharding == "full":
        yield from _of_sharding(spec)


def _of_the_method(spec: RunSpec) -> Iterator[str]:
    objective = spec.objective
    tag = str(getattr(objective, "type", ""))
    reason = ""
    if "score-head" in objective.uses:
        reason = "trains a reward model"
    elif objective.learns_from not in LEARNS_FROM:
        reason = f"learns from {objective.learns_from}"
    if reason:
        yield (
            f"objective.type: {tag} {reason}, which works in one process only so far; ask for one (resources."
            f"{_named(spec)}), or use another objective"
        )
    if spec.rollout.engine == "vllm":
        yield (
            "rollout.engine: vLLM samples for one training process only so far; use native, or one process "
            f"(resources.{_named(spec)})"
        )
    if spec.rollout.placement == "server":
        yield (
            "rollout.placement: processes that sample serve one training process only so far; set it to "
            f'"colocated", or ask for one process (resources.{_named(spec)})'
        )


def _of_the_place_of_sampling(spec: RunSpec) -> Iterator[str]:
    if spec.rollout.placement == "server":
        yield (
            "rollout.placement: a sampler in a process of its own serves one training process only so far; use "
            f"colocated, or one process (resources.{_named(spec)})"
        )


def _of_the_batch(spec: RunSpec) -> Iterator[str]:
    batch, world = spec.batch, spec.resources.world
    parts = batch.minibatches if spec.online else 1
    if batch.prompts_per_step < world * parts:
        share = f"each of the {parts} minibatches" if parts > 1 else "each step"
        yield (
            f"batch.prompts_per_step: {batch.prompts_per_step} prompts do not give each of {world} processes one "
            f"in {share}; use {world * parts} or more"
        )


def _of_sharding(spec: RunSpec) -> Iterator[str]:
    if spec.resources.nodes > 1:
        yield (
            "resources.sharding: a model is not divided over several machines so far, as its parts are saved "
            "on one disk; set it to none, or resources.nodes to 1"
        )
    if "critic" in spec.objective.uses:
        yield "resources.sharding: a critic is not divided so far; set it to none, or use no critic"
    if getattr(spec.adapter, "type", "") != "none":
        yield (
            "resources.sharding: an adapter's base is not divided so far; set it to none, or train all weights"
        )
    if spec.reference.sync_every:
        yield (
            "reference.sync_every: a reference cannot follow a divided policy so far; set it to 0, or "
            "resources.sharding to none"
        )


def _named(spec: RunSpec) -> str:
    """The field by which the spec asks for several."""
    if spec.resources.local == 1:
        return "nodes"
    return "processes" if spec.resources.processes > 1 else "gpus"
