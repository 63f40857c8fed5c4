"""vLLM in a process of its own: its answers are the policy's, also while weights are exchanged in flight."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from tests.vllm.conftest import PROBE, SHAPE
from tests.vllm.test_vllm_generator import draw, gap
from trainer.adapters.lora import LoRA
from trainer.engine.adapted import adapter_attach
from trainer.engine.generation import generator_make
from trainer.engine.sampler import Sampling
from trainer.engine.seeds import sample_keys

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),
]
LONG = Sampling(250)


@pytest.fixture(scope="module", params=[("whole", "broadcast"), ("lora", "shared-memory")], ids=str)
def pair(request):
    """A policy without end tokens, and the process that samples from it."""
    policy = make_policy(**SHAPE)
    policy.eos_ids = ()
    trained, transport = request.param
    if trained == "lora":
        adapter_attach(policy.model, LoRA(type="lora", r=4).peft_config(), 0)
    spec = tiny_spec(
        "objective.type=grpo",
        "rollout.engine=vllm",
        "rollout.placement=server",
        f"rollout.weight_transport={transport}",
        "rollout.max_new_tokens=250",
        "data.max_prompt_tokens=300",
        "data.max_tokens=560",
    )
    generator = generator_make(spec, policy, PROBE, nothing)
    start = state(policy)
    yield policy, generator, start
    generator.close()


@pytest.fixture
def served(pair):
    """With the weights it began with: they would grow from test to test, and float32's error with them."""
    policy, generator, start = pair
    torch.manual_seed(0)
    put(policy, start)
    policy.version += 1
    return policy, generator


def test_its_answers_are_the_policys_after_each_hand_over(served, move):
    policy, generator = served
    assert generator.name == "vllm" and not generator.tells_entropy
    for step in range(3):
        move(policy)
        for how in (Sampling(10, 0.7), Sampling(10, 1.0, top_p=0.8)):
            prompts, answers = draw(policy, generator, how, step=step)
            assert [a.prompt for a in answers] == [i // 6 for i in range(24)]
            assert {v for a in answers for v in a.versions} == {policy.version}
            assert gap(policy, prompts, answers, how) < 1e-4


def test_weights_are_exchanged_in_flight_and_each_token_tells_who_drew_it(served, move):
    """Prompts of many blocks: what is kept of them was computed by the weights before."""
    policy, generator = served
    generator.sync()
    prompts = [PROBE * 20, PROBE * 7, PROBE]
    keys = sample_keys(0, "train", 1, [0, 1, 2], 3)
    weights = {policy.version: state(policy)}
    before = generator.stats()["busy_s"]
    generator.submit(4, prompts, keys, LONG)
    for _ in range(2):
        while generator.stats()["busy_s"] < before + 0.1:
            assert generator.done() == []
        move(policy, 0.1)
        weights[policy.version] = state(policy)
        generator.push(policy.version)
        before = generator.stats()["busy_s"]
    answers = generator.wait(4, nothing)
    drawn = Counter(version for answer in answers for version in answer.versions)
    assert set(drawn) == set(weights) and sum(drawn.values()) == 9 * 250
    for version, values in weights.items():
        put(policy, values)
        own, others = gaps(policy, prompts, answers, version)
        assert own < 1e-4 and others > 0.1
    put(policy, weights[policy.version])


def test_an_answer_depends_on_its_key_and_a_ticket_can_be_taken_back(served):
    policy, generator = served
    how = Sampling(8)
    _, whole = draw(policy, generator, how, step=3)
    ticks = iter(range(2))
    with pytest.raises(StopIteration):
        draw(policy, generator, LONG, step=3, tick=lambda: next(ticks))
    prompts = policy.tokenizer(["sort 59265 = "])["input_ids"]
    keys = sample_keys(0, "train", 3, list(range(4)), 6)[2:3, 1:3]
    alone = generator.sample(prompts, keys, how, budget=1, tick=nothing)
    assert [a.tokens for a in alone] == [a.tokens for a in whole[13:15]]


def test_a_model_in_two_parts_is_handed_its_weights_by_shared_memory(move, monkeypatch):
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    policy = make_policy(**SHAPE)
    spec = tiny_spec(
        "objective.type=grpo",
        "rollout.engine=vllm",
        "rollout.placement=server",
        "rollout.tensor_parallel=2",
        "data.max_prompt_tokens=300",
        "data.max_tokens=340",
    )
    generator = generator_make(spec, policy, PROBE, nothing)
    try:
        for step in range(2):
            move(policy)
            prompts, answers = draw(policy, generator, Sampling(8), step=step)
            assert {v for a in answers for v in a.versions} == {policy.version}
            assert gap(policy, prompts, answers, Sampling(8)) < 1e-4
    finally:
        generator.close()


def state(policy):
    return {name: each.detach().clone() for name, each in policy.parameters()}


def put(policy, values):
    with torch.no_grad():
        for name, parameter in policy.parameters():
            parameter.copy_(values[name])


def gaps(policy, prompts, answers, version):
    """Largest differences from what was recorded: of this version's tokens, and of the others'."""
    own, others = [0.0], [0.0]
    for answer in answers:
        prompt = prompts[answer.prompt]
        with torch.no_grad():
            logits = policy.model(torch.tensor([prompt + answer.tokens])).logits[0].float()
        logp = logits[len(prompt) - 1 : -1].log_softmax(-1)
        told = logp.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0].tolist()
        for ours, theirs, drawn_by in zip(told, answer.logps, answer.versions, strict=True):
            (own if drawn_by == version else others).append(abs(ours - theirs))
    return max(own), max(others)
