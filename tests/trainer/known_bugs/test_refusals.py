"""Settings that contradict each other are refused with a sentence; none is silently replaced."""

from __future__ import annotations

import pytest

from tests.trainer.engine.support import tiny_spec
from tests.trainer.known_bugs.support import objectives
from trainer import registry
from trainer.spec import SpecError

CONTRADICTIONS = {
    "sft has no advantage": ["objective.type=sft", "advantage.type=group-mean-std"],
    "dpo has no rollouts to go over twice": ["objective.type=dpo", "batch.updates_per_rollout=2"],
    "sft has no rollouts to divide": ["objective.type=sft", "batch.minibatches=2"],
    "sft samples at evaluation only": ["objective.type=sft", "rollout.top_p=0.9"],
    "grpo needs a reward": ["objective.type=grpo", "rewards=[]"],
    "a group of one compares nothing": ["objective.type=grpo", "rollout.group_size=1"],
    "more minibatches than prompts": ["objective.type=grpo", "batch.minibatches=64"],
    "k1 in the loss has no gradient": [
        "objective.type=grpo", "objective.beta=0.1",
        "objective.kl_estimator=k1", "objective.kl_ratio=false",
    ],
    "k2 with the ratio has a wrong gradient": [
        "objective.type=grpo", "objective.beta=0.1", "objective.kl_estimator=k2",
    ],
    "a schedule of beta without an end": [
        "objective.type=grpo", "objective.beta_schedule=linear",
    ],
    "an end of beta without a schedule": ["objective.type=grpo", "objective.beta_end=0.1"],
    "a target of KL without its controller": ["objective.type=grpo", "objective.kl_target=0.1"],
    "a controller without its target": [
        "objective.type=grpo", "objective.beta=0.1", "objective.beta_schedule=target",
    ],
    "a reference that nobody asks": ["objective.type=grpo", "reference.name=starter"],
    "a reference to follow that nobody asks": ["objective.type=grpo", "reference.sync_every=5"],
    "a critic that no advantage asks": ["objective.type=ppo", "advantage.type=group-mean-std"],
    "an advantage whose critic nobody trains": ["objective.type=grpo", "advantage.type=gae"],
    "a dual clip inside the clip": ["objective.type=grpo", "objective.dual_clip=1.1"],
    "cispo with the dual clip of grpo": ["objective.type=cispo", "objective.dual_clip=3.0"],
    "cispo with the lower clip of grpo": ["objective.type=cispo", "objective.clip_low=0.2"],
    "an importance correction that nobody makes": ["objective.type=grpo", "rollout.tis=2"],
    "a penalty of the sampler that the trainer does not know": [
        "objective.type=grpo", "rollout.repetition_penalty=1.1",
    ],
    "two rewards of one name": [
        "objective.type=grpo", 'rewards=[{type = "exact-match"}, {type = "exact-match"}]',
    ],
    "two halves of a split": ['data.train=[{source = "a.jsonl", split_by = "x"}]'],
    "a run without an end": ["objective.type=grpo", "budget.max_steps=0"],
}  # fmt: skip


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_bug_46_contradictory_settings_are_refused_with_a_sentence(name):
    with pytest.raises(SpecError) as caught:
        tiny_spec(*CONTRADICTIONS[name])
    for problem in caught.value.problems:
        assert problem.path
        assert len(problem.message.split()) > 3


def pairs_of(name):
    """Each knob of an objective with a value that is not its default."""
    method = registry.family("objectives")[name.split()[0]]
    for key, field in method.model_fields.items():
        if isinstance(field.default, bool):
            yield key, not field.default
        elif isinstance(field.default, (int, float)):
            yield key, type(field.default)(field.default * 0.5 + 0.1)


@pytest.mark.parametrize("name", objectives())
def test_bug_46_what_was_set_is_what_the_spec_holds_or_it_is_refused(name):
    """No setting is changed on the way; one that has no place is an error."""
    kept = 0
    for key, value in pairs_of(name):
        text = str(value).lower()
        try:
            spec = tiny_spec(*objectives()[name], f"objective.{key}={text}")
        except SpecError as error:
            assert all(problem.message for problem in error.problems)
            continue
        assert getattr(spec.objective, key) == value
        kept += 1
    with pytest.raises(SpecError, match="objective"):
        tiny_spec(*objectives()[name], "objective.no_such_knob=1")
    assert kept or not list(pairs_of(name))
