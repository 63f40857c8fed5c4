"""Which engine samples, and what is said when the wanted one cannot."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from trainer.engine import generation
from trainer.engine.generation import Native, engine_pick, generator_make
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def pick(device, *overrides):
    return engine_pick(tiny_spec("objective.type=grpo", *overrides), device)


@pytest.fixture
def installed(monkeypatch):
    def says(there):
        monkeypatch.setattr(generation, "find_spec", lambda name: object() if there else None)

    return says


def test_auto_takes_vllm_where_there_is_a_gpu_and_vllm(installed):
    installed(True)
    assert pick(GPU) == ("vllm", "auto: a GPU, and vllm is installed")
    assert pick(CPU) == ("native", "auto: there is no GPU, where vLLM would pay")
    installed(False)
    engine, why = pick(GPU)
    assert engine == "native" and "requirements-vllm.txt" in why


def test_auto_stays_native_where_answers_are_sampled_at_evaluation_only(installed):
    installed(True)
    engine, why = engine_pick(tiny_spec("objective.type=dpo"), GPU)
    assert engine == "native" and "evaluation only" in why


@pytest.mark.parametrize("engine", ["native", "vllm"])
def test_whoever_names_an_engine_gets_it(installed, engine):
    installed(False)
    assert pick(CPU, f"rollout.engine={engine}") == (engine, "rollout.engine asks for it")


def test_a_machine_without_vllm_says_what_to_install(installed):
    installed(False)
    spec = tiny_spec("objective.type=grpo", "rollout.engine=vllm")
    with pytest.raises(
        ValueError, match=r"^rollout\.engine: vllm is not installed .* or use native"
    ):
        generator_make(spec, make_policy(), [1, 2], nothing)


def test_a_server_needs_vllm_here_too(installed):
    installed(False)
    words = ("rollout.engine=vllm", "rollout.placement=server")
    with pytest.raises(ValueError, match="vllm is not installed"):
        generator_make(tiny_spec("objective.type=grpo", *words), make_policy(), [1, 2], nothing)


def test_the_native_engine_samples_from_the_policy_itself():
    policy = make_policy()
    generator = generator_make(tiny_spec("objective.type=grpo"), policy, [1, 2], nothing)
    assert isinstance(generator, Native) and generator.tells_entropy
    prompts = policy.tokenizer(["sort 5 = ", "sort 31 = "])["input_ids"]
    keys, how = sample_keys(0, "train", 1, [0, 1], 3), Sampling(6)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(1.5)
    generator.sync()
    found = generator.sample(prompts, keys, how, budget=1 << 20, tick=nothing)
    assert found == sample(policy, prompts, keys, how, budget=1 << 20, tick=nothing)
    generator.close()
