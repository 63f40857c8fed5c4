"""What several processes cannot do together is refused with a sentence at its field; what is near it passes."""

from __future__ import annotations

import pytest

from trainer.spec import SpecError, spec_parse

REWARD = {"rewards": [{"type": "exact-match"}]}
TWO = {"gpus": 0, "processes": 2}


def told(raw):
    with pytest.raises(SpecError) as refused:
        spec_parse({**REWARD, **raw})
    return {problem.path: problem.message for problem in refused.value.problems}


@pytest.mark.parametrize(
    ("resources", "world"),
    [
        ({}, 1),
        ({"gpus": 0}, 1),
        ({"gpus": 4}, 4),
        ({"gpus": 4, "processes": 4}, 4),
        ({"gpus": 1, "processes": 1}, 1),
        (TWO, 2),
        ({**TWO, "sharding": "full"}, 2),
    ],
)
def test_how_many_processes_a_spec_asks_for(resources, world):
    assert spec_parse({**REWARD, "resources": resources}).resources.world == world


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"resources": {"processes": 2}}, "resources.processes", "gpus is auto; set gpus to 0"),
        ({"resources": {"processes": 2, "gpus": 4}}, "resources.processes", "gpus is 4"),
        ({"resources": {"processes": 1, "gpus": 4}}, "resources.processes", "one GPU"),
        ({"resources": {"sharding": "full"}}, "resources.sharding", "nobody to share"),
        (
            {"resources": TWO, "batch": {"prompts_per_step": 1}},
            "batch.prompts_per_step",
            "1 prompts do not give each of 2 processes one in each step; use 2 or more",
        ),
        (
            {"resources": TWO, "batch": {"prompts_per_step": 7, "minibatches": 4}},
            "batch.prompts_per_step",
            "use 8 or more",
        ),
        (
            {"resources": {**TWO, "sharding": "full"}, "objective": {"type": "ppo"}},
            "resources.sharding",
            "a critic is not divided",
        ),
        (
            {"resources": TWO, "rollout": {"placement": "server"}},
            "rollout.placement",
            "serves one training process",
        ),
        (
            {"resources": TWO, "rollout": {"engine": "vllm"}},
            "rollout.engine",
            "one training process",
        ),
        (
            {"resources": {**TWO, "sharding": "full"}, "adapter": {"type": "lora"}},
            "resources.sharding",
            "adapter's base",
        ),
        (
            {
                "resources": {**TWO, "sharding": "full"},
                "reference": {"sync_every": 4},
                "objective": {"type": "grpo", "beta": 0.1},
            },
            "reference.sync_every",
            "divided policy",
        ),
        (
            {
                "kind": "evaluate",
                "resources": TWO,
                "data": {"eval": [{"source": "arithmetic", "split": "test"}]},
            },
            "resources.processes",
            "an evaluation runs in one process",
        ),
    ],
)
def test_what_does_not_work_together_is_refused(change, path, words):
    assert words in told(change)[path]


def test_a_reward_model_is_trained_by_one():
    with pytest.raises(SpecError, match="trains a reward model, which works in one process only"):
        spec_parse({"resources": TWO, "objective": {"type": "bradley-terry"}})


@pytest.mark.parametrize("objective", ["sft", "dpo", "aot", "kto"])
def test_written_answers_may_be_shared(objective):
    assert spec_parse({"resources": TWO, "objective": {"type": objective}}).resources.world == 2
