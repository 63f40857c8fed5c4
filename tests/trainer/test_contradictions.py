"""Each contradiction across sections is refused with a sentence at its field; what is near it passes."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.spec import SpecError, spec_parse

REWARD: dict[str, Any] = {"rewards": [{"type": "exact-match"}]}
PPO = {"objective": {"type": "ppo"}}
KL = {"objective": {"type": "grpo", "beta": 0.1}}
REINFORCE = {"objective": {"type": "reinforce"}}
RATIO = {"objective": {"type": "reinforce", "importance_ratio": True}}
DPO = {"objective": {"type": "dpo"}}
MINUTES = {"budget": {"max_steps": 0, "max_minutes": 5}}
FADING = {"objective": {"type": "grpo", "beta": 0.1, "beta_schedule": "linear"}}


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        (
            PPO | {"advantage": {"type": "group-mean-std"}},
            "advantage",
            "ppo trains a critic, which group-mean-std does not ask; use gae",
        ),
        (
            {"advantage": {"type": "gae"}},
            "advantage",
            "gae asks a critic, which grpo does not train; use it with ppo",
        ),
        (
            {"advantage": {"type": "pass-at-k", "baseline": "mean", "k": 8}},
            "advantage.k",
            "sets of 8 need groups of more answers; use less than 8",
        ),
        (
            {"data": {"train_on": "assistant"}},
            "data.train_on",
            'grpo learns from rollouts, not from demonstrated conversations; set it to "answer"',
        ),
        (
            {"batch": {"minibatches": 5, "prompts_per_step": 4}},
            "batch.minibatches",
            "5 parts cannot be made of 4 prompts",
        ),
        (
            REINFORCE | {"batch": {"minibatches": 2}},
            "batch.minibatches",
            "wrong behind the first step",
        ),
        (
            REINFORCE | {"batch": {"updates_per_rollout": 2}},
            "batch.updates_per_rollout",
            "wrong behind the first step",
        ),
        (DPO | {"batch": {"minibatches": 2}}, "batch.minibatches", "dpo has no rollouts"),
        (
            {"rollout": {"replicas": 2}},
            "rollout.replicas",
            'set it to 1, or rollout.placement to "server"',
        ),
        (
            DPO | {"rollout": {"placement": "server"}},
            "rollout.placement",
            "dpo samples at evaluation only",
        ),
        (
            {"rollout": {"placement": "server", "sleep_level": 1}},
            "rollout.sleep_level",
            "a server goes on sampling while the trainer learns",
        ),
        *(
            (
                {"rollout": {"tensor_parallel": 2} | other},
                "rollout.tensor_parallel",
                "set it to 1, or",
            )
            for other in ({}, {"engine": "native", "placement": "server"})
        ),
        (
            {"rollout": {"weight_transport": "broadcast"}},
            "rollout.weight_transport",
            "nobody to broadcast to",
        ),
        (
            {
                "rollout": {
                    "weight_transport": "broadcast",
                    "placement": "server",
                    "tensor_parallel": 2,
                    "engine": "vllm",
                }
            },
            "rollout.weight_transport",
            "from shared memory",
        ),
        (
            {"rollout": {"engine": "native", "sleep_level": 2}},
            "rollout.sleep_level",
            "the native engine samples with the policy itself",
        ),
        (
            DPO | {"batch": {"updates_per_rollout": 2}},
            "batch.updates_per_rollout",
            "dpo has no rollouts",
        ),
        ({"rollout": {"top_k": 1}}, "rollout.top_k", "nothing can be learned"),
        (
            {"evaluation": {"samples_per_prompt": 4, "temperature": 0}},
            "evaluation.temperature",
            "the 4 answers to a prompt are one and the same",
        ),
        (
            {
                "kind": "evaluate",
                "data": {"eval": [{"source": "noisy-sort"}]},
                "evaluation": {"samples_per_prompt": 2, "temperature": 0},
            },
            "evaluation.temperature",
            "set evaluation.samples_per_prompt to 1",
        ),
        *(
            (
                MINUTES | {"schedule": {"type": tag}},
                "schedule.type",
                f"{tag} goes by the share of the run that is done",
            )
            for tag in ("cosine", "linear", "wsd")
        ),
        (MINUTES | FADING, "objective.type", "set budget.max_steps or budget.max_epochs too"),
        (DPO | {"rollout": {"top_p": 0.9}}, "rollout.top_p", "set it to 1"),
        (DPO | {"rollout": {"top_k": 5}}, "rollout.top_k", "set it to 0"),
        (DPO | {"rollout": {"min_p": 0.1}}, "rollout.min_p", "set it to 0"),
        ({"reference": {"name": "starter"}}, "reference.name", "leave it empty"),
        ({"reference": {"sync_every": 4}}, "reference.sync_every", "compares with no reference"),
        (
            {"objective": {"type": "sft"}, "reference": {"name": "starter"}},
            "reference.name",
            "sft compares with no reference",
        ),
        (
            KL | {"reference": {"sync_every": 4}, "adapter": {"type": "lora"}},
            "reference.sync_every",
            "train all weights",
        ),
        (
            KL | {"reference": {"sync_every": 4, "name": "starter"}},
            "reference.sync_every",
            "leave reference.name empty",
        ),
    ],
)
def test_it_refuses_with_a_sentence_at_the_field(
    change: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        spec_parse(REWARD | change)
    assert [problem.path for problem in caught.value.problems] == [path]
    assert words in caught.value.problems[0].message


@pytest.mark.parametrize(
    "change",
    [
        PPO,
        PPO | {"rollout": {"group_size": 1}},
        {"advantage": {"type": "remax"}, "rollout": {"group_size": 1}},
        {"batch": {"minibatches": 4, "prompts_per_step": 4, "updates_per_rollout": 3}},
        {"rollout": {"top_p": 0.9, "top_k": 5, "min_p": 0.1, "temperature": 0.7}},
        {"rollout": {"top_k": 2}, "evaluation": {"temperature": 0}},
        {"rollout": {"placement": "server", "replicas": 3, "engine": "vllm"}},
        {"rollout": {"placement": "server", "weight_transport": "broadcast", "replicas": 2}},
        {"rollout": {"placement": "server", "tensor_parallel": 2, "engine": "vllm"}},
        {"rollout": {"sleep_level": 2}},
        MINUTES | {"schedule": {"type": "constant", "warmup_steps": 9}},
        MINUTES | {"schedule": {"type": "cosine", "floor": 1.0}},
        FADING | {"budget": {"max_steps": 0, "max_epochs": 2, "max_minutes": 5}},
        {"evaluation": {"samples_per_prompt": 4, "temperature": 0.1}},
        REINFORCE,
        RATIO | {"batch": {"minibatches": 2, "updates_per_rollout": 2}},
        KL | {"reference": {"sync_every": 4}},
        KL | {"reference": {"name": "starter"}, "adapter": {"type": "lora"}},
        DPO | {"reference": {"sync_every": 4, "sync_mix": 1.0}},
    ],
)
def test_what_goes_together_passes(change: dict[str, Any]) -> None:
    assert spec_parse(REWARD | change).kind == "train"


def test_training_never_samples_at_temperature_0() -> None:
    with pytest.raises(SpecError) as caught:
        spec_parse(REWARD | {"rollout": {"temperature": 0}})
    assert [problem.path for problem in caught.value.problems] == ["rollout.temperature"]
