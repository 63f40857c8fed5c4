"""Settings that do not go together: refused before anything runs, with the field and what to change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trainer import registry
from trainer.evaluation import evaluation_contradictions
from trainer.play import play_contradictions
from trainer.several import evaluation_problems, processes_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.spec import RunSpec


def contradictions(spec: RunSpec) -> list[str]:
    """One sentence per contradiction, each begins with the field: `section.field: what to change`."""
    if spec.kind == "play":
        return list(play_contradictions(spec))
    found = [*evaluation_contradictions(spec), *_of_placement(spec), *_of_labels(spec)]
    found += play_contradictions(spec)
    if spec.kind == "evaluate":
        return [*found, *evaluation_problems(spec)]
    found += [*_of_rewards(spec), *_of_reference(spec), *_of_coupling(spec), *_of_the_end(spec)]
    found += processes_problems(spec)
    found += _of_rollouts(spec) if spec.online else _of_written_answers(spec)
    found += _of_reward_models(spec) if "score-head" in spec.objective.uses else []
    unknown = [name for name in spec.diagnostics if name not in registry.family("diagnostics")]
    if unknown:
        found.append(f"diagnostics: there is no {', '.join(unknown)}")
    if spec.data.train_on != "answer" and spec.objective.learns_from != "demonstrations":
        found.append(
            f"data.train_on: {_tag(spec.objective)} learns from {spec.objective.learns_from}, not from "
            'demonstrated conversations; set it to "answer"'
        )
    if spec.data.max_prompt_tokens >= spec.data.max_tokens:
        found.append("data.max_prompt_tokens: must be below data.max_tokens")
    return found


def _of_placement(spec: RunSpec) -> Iterator[str]:
    """Where answers are sampled."""
    rollout = spec.rollout
    if rollout.tensor_parallel > 1 and (
        rollout.placement != "server" or rollout.engine == "native"
    ):
        yield (
            "rollout.tensor_parallel: only vLLM in a process of its own can hold a model in parts; set it to "
            '1, or rollout.engine to "vllm" and rollout.placement to "server"'
        )
    if rollout.weight_transport == "broadcast":
        if rollout.placement != "server":
            yield (
                "rollout.weight_transport: in the trainer's own process there is nobody to broadcast to; set it "
                'to "auto", or rollout.placement to "server"'
            )
        if rollout.tensor_parallel > 1:
            yield (
                "rollout.weight_transport: the parts of a vLLM read the weights from shared memory; set it to "
                '"auto", or rollout.tensor_parallel to 1'
            )
    if rollout.placement == "server":
        if rollout.sleep_level:
            yield (
                "rollout.sleep_level: a server goes on sampling while the trainer learns; set it to 0, or "
                'rollout.placement to "colocated"'
            )
        if spec.kind == "train" and not spec.online:
            yield (
                f"rollout.placement: {_tag(spec.objective)} samples at evaluation only, which a server is "
                'not worth; set it to "colocated"'
            )
        return
    if rollout.max_staleness:
        yield (
            "rollout.max_staleness: the trainer's own process draws and learns in turn; set "
            'rollout.placement to "server", or this to 0'
        )
    if rollout.replicas > 1:
        yield (
            "rollout.replicas: the trainer's process holds one engine; set it to 1, or rollout.placement "
            'to "server"'
        )
    if rollout.sleep_level and rollout.engine == "native":
        yield (
            "rollout.sleep_level: the native engine samples with the policy itself and has nothing to give "
            'back; set it to 0, or rollout.engine to "vllm"'
        )


def _of_labels(spec: RunSpec) -> Iterator[str]:
    labels = [reward.label for reward in spec.rewards]
    doubled = sorted({label for label in labels if labels.count(label) > 1})
    if doubled:
        yield f"rewards: two are called {', '.join(doubled)}; give one a name"


def _of_rewards(spec: RunSpec) -> Iterator[str]:
    if spec.online and not spec.rewards:
        yield f"rewards: {_tag(spec.objective)} learns from rewards; add at least one"
    if spec.online:
        for reward in spec.rewards:
            if reward.reads:
                yield (
                    f"rewards: {reward.label} says how likely the policy finds a text, whatever it answers, so "
                    "that there is nothing to learn from it; use it at evaluation"
                )


def _of_rollouts(spec: RunSpec) -> Iterator[str]:
    tag, advantage, name = _tag(spec.objective), spec.advantage, _tag(spec.advantage)
    assert advantage is not None
    try:
        spec.correction.resolved(spec.rollout.max_staleness)
    except ValueError:
        yield (
            "correction.weight: would correct a second time what the ratio to the sampler corrects already; "
            'set correction.old_policy to "trainer", or this to "none"'
        )
    if "group" in advantage.needs and spec.rollout.group_size < 2:
        yield f"rollout.group_size: {name} compares answers of one prompt; use 2 or more"
    elif objection := advantage.objection(spec.rollout.group_size):
        yield f"advantage.{objection}"
    if spec.rollout.top_k == 1:
        yield (
            "rollout.top_k: where one token is kept its probability is 1 whatever the weights are, and "
            "nothing can be learned; use 0 (all) or more than 1"
        )
    trains_critic, wants_critic = "critic" in spec.objective.uses, "critic" in advantage.needs
    if trains_critic and not wants_critic:
        fitting = _tags_needing("advantages", "critic")
        yield f"advantage: {tag} trains a critic, which {name} does not ask; use {fitting}"
    if wants_critic and not trains_critic:
        fitting = _tags_needing("objectives", "critic")
        yield f"advantage: {name} asks a critic, which {tag} does not train; use it with {fitting}"
    for name in ("updates_per_rollout", "minibatches"):
        if spec.objective.on_policy and getattr(spec.batch, name) > 1:
            yield (
                f"batch.{name}: {tag} as it is set has no ratio between the policy and the one that sampled; "
                "its gradient is wrong behind the first step on a batch; give it one, or set this to 1"
            )
    if spec.rollout.max_staleness and "greedy" in advantage.needs:
        yield (
            f"rollout.max_staleness: {_tag(advantage)} compares with greedy answers of the very policy "
            "that drew the others; set it to 0, or use another advantage"
        )
    if spec.batch.minibatches > spec.batch.prompts_per_step:
        yield (
            f"batch.minibatches: {spec.batch.minibatches} parts cannot be made of "
            f"{spec.batch.prompts_per_step} prompts, as groups stay whole; lower it, or raise "
            "batch.prompts_per_step"
        )


def _of_written_answers(spec: RunSpec) -> Iterator[str]:
    tag, batch, rollout = _tag(spec.objective), spec.batch, spec.rollout
    if spec.correction.old_policy == "trainer" or spec.makes_good.acts:
        yield f"correction: {tag} learns from no sampled answers; leave it out"
    if spec.advantage is not None:
        yield f"advantage: {tag} learns from {spec.objective.learns_from}; remove the advantage"
    for name in ("updates_per_rollout", "minibatches"):
        if getattr(batch, name) > 1:
            yield f"batch.{name}: {tag} has no rollouts; set it to 1"
    compares_rows = spec.objective.couples or "mismatched" in spec.objective.uses
    if compares_rows and batch.prompts_per_step < 2:
        yield f"batch.prompts_per_step: {tag} compares the rows of a batch; use 2 or more"
    for name, off in (("top_p", 1), ("top_k", 0), ("min_p", 0)):
        if getattr(rollout, name) != off:
            yield (
                f"rollout.{name}: {tag} samples at evaluation only, for which there is evaluation.{name}; "
                f"set it to {off}"
            )


def _of_coupling(spec: RunSpec) -> Iterator[str]:
    objective = spec.objective
    written = objective.learns_from in ("pairs", "labels") and "score-head" not in objective.uses
    if objective.couples and not written:
        yield (
            f"objective.type: {_tag(objective)} couples the sequences of a batch, which is only "
            "possible for language models on pairs or labels; use another objective"
        )


def _of_the_end(spec: RunSpec) -> Iterator[str]:
    """What moves as the run goes on goes by its steps: minutes would make a resumed run another one."""
    if spec.budget.max_steps or spec.budget.max_epochs:
        return
    why = (
        "which minutes alone do not tell; set budget.max_steps or budget.max_epochs too, or let it "
        "stay as it is"
    )
    schedule, objective = spec.schedule, spec.objective
    if schedule.after_warmup(0.0) != schedule.after_warmup(1.0):
        yield f"schedule.type: {_tag(schedule)} goes by the share of the run that is done, {why}"
    if objective.dials({}, {}, 0.0) != objective.dials({}, {}, 1.0):
        yield (
            f"objective.type: a coefficient of {_tag(objective)} goes by the share of the run that is "
            f"done, {why}"
        )


def _of_reward_models(spec: RunSpec) -> Iterator[str]:
    tag, why = _tag(spec.objective), "trains a reward model, which writes no answers"
    if spec.rewards:
        yield f"rewards: {tag} {why} to grade; remove the rewards"
    if _tag(spec.adapter) != "none":
        yield f'adapter.type: {tag} trains the whole model and its score head; set it to "none"'
    sampling = {
        "rollout": ("group_size", "max_new_tokens", "temperature"),
        "evaluation": (
            "samples_per_prompt",
            "max_new_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
        ),
    }
    for section, names in sampling.items():
        given = getattr(spec, section)
        for name in names:
            if getattr(given, name) != type(given).model_fields[name].default:
                yield f"{section}.{name}: {tag} {why}; remove it"


def _of_reference(spec: RunSpec) -> Iterator[str]:
    tag, reference = _tag(spec.objective), spec.reference
    if "reference" not in spec.objective.uses:
        for name, off in (("name", "leave it empty"), ("sync_every", "set it to 0")):
            if getattr(reference, name):
                yield f"reference.{name}: {tag} compares with no reference as it is set; {off}"
        return
    if not reference.sync_every:
        return
    if _tag(spec.adapter) != "none":
        yield (
            "reference.sync_every: the reference of an adapter is the base beneath it, which does not "
            "move; set it to 0, or train all weights"
        )
    if reference.name:
        yield (
            "reference.sync_every: a reference that follows the policy begins as the start model; "
            "leave reference.name empty, or set it to 0"
        )


def _tags_needing(family: str, need: str) -> str:
    tags = [
        tag
        for tag, method in sorted(registry.family(family).items())
        if need in getattr(method, "needs", ())
    ]
    return " or ".join(tags) or "another method"


def _tag(method: object) -> str:
    return str(getattr(method, "type", ""))
