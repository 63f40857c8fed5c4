"""The engine of a generator's process, in this one: weights that are exchanged between two tokens."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from trainer.adapters.lora import LoRA
from trainer.engine.adapted import ADAPTER_CONFIG, adapter_attach, adapter_config
from trainer.engine.forward import Sequences, micro_batches, token_scores
from trainer.engine.handover import Layout, Memory, digest
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys
from trainer.engine.served import ServedNative
from trainer.engine.tickets import Ticket
from trainer.engine.weight_check import difference, probe_logps

PROMPTS = ["sort 5 = ", "sort 314 = ", "sort 59265 = ", "s"]


def told_of(policy, adapter=False):
    return {
        "dtype": str(policy.dtype).removeprefix("torch."),
        "eos_ids": list(policy.eos_ids),
        "pad_id": policy.pad_id,
        "attention": policy.model.config._attn_implementation,
        "trust_remote_code": False,
        "adapter": adapter,
    }


def ticket(policy, how, number=1, samples=4):
    prompts = policy.tokenizer(PROMPTS)["input_ids"]
    keys = sample_keys(0, "train", number, list(range(len(prompts))), samples)
    return Ticket(number, prompts, keys, how, 1 << 20)


def move(policy, size=0.05):
    with torch.no_grad():
        for _, parameter in policy.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=size)


def logps(policy, asked, answers):
    """What the trainer says of each answer's tokens."""
    kept = [a.kept for a in answers] if asked.how.truncates else None
    sequences = Sequences(
        asked.prompts, [a.tokens for a in answers], [a.prompt for a in answers], kept
    )
    found = {}
    for rows in micro_batches(sequences, range(len(answers)), budget=1 << 20, shared=False):
        chosen = [answer for row in rows for answer in row.answers]
        with torch.no_grad():
            logp, _, _ = token_scores(
                policy, sequences, chosen, rows=rows, temperature=asked.how.temperature
            ).padded()
        found |= {answer: logp[place].tolist() for place, answer in enumerate(chosen)}
    return found


@pytest.fixture(params=["whole", "lora", "bfloat16"])
def policy(request):
    policy = make_policy()
    if request.param == "lora":
        adapter_attach(policy.model, LoRA(type="lora", r=4).peft_config(), 0)
        move(policy)
    if request.param == "bfloat16":
        policy.dtype = torch.bfloat16
    return policy


def made(policy, folder):
    """A served engine, built as another process would build it, and given the policy's weights."""
    adapter = hasattr(policy.model, "peft_config")
    policy.model.config.save_pretrained(folder)
    if adapter:
        (folder / ADAPTER_CONFIG).write_text(adapter_config(policy.model, "base"))
    served = ServedNative(str(folder), told_of(policy, adapter), torch.device("cpu"))
    frozen = [(n, p) for n, p in policy.model.named_parameters() if not p.requires_grad]
    with holding(frozen) as memory:
        served.base_take(memory)
    assert take(served, policy, 0) == digest(p for _, p in policy.parameters())
    return served


def holding(named):
    tensors = dict(named)
    memory = Memory(Layout.of(tensors))
    memory.write(tensors)
    return memory


def take(served, policy, version):
    with holding(policy.parameters()) as memory:
        return served.take(memory, version)


def test_with_the_same_weights_it_gives_the_same_bits(policy, tmp_path):
    served, how = made(policy, tmp_path), Sampling(12, 0.9, top_p=0.9)
    asked = ticket(policy, how)
    served.accept(asked)
    ((number, found),) = served.work(nothing)
    here = sample(policy, asked.prompts, asked.keys_PS, how, budget=1 << 20, tick=nothing)
    assert number == 1 and not served.busy
    for one, two in zip(found, here, strict=True):
        assert (one.tokens, one.logps, one.entropies) == (two.tokens, two.logps, two.entropies)
        assert (one.kept == two.kept).all() and one.log_kept == two.log_kept
        assert one.versions == [0] * len(one.tokens) and two.versions is None
    probe = asked.prompts[2]
    assert difference(served.probe(probe), probe_logps(policy, probe)) == 0


@pytest.mark.parametrize("moments", [(1,), (4,), (5, 9)])
def test_bug_37_each_token_was_drawn_by_the_version_that_it_tells(policy, tmp_path, moments):
    """Also with ragged prompts, rows that have ended, truncation, and copies in lower precision."""
    served, how = made(policy, tmp_path), Sampling(14, 1.0, top_k=9)
    asked = ticket(policy, how, samples=8)
    torch.manual_seed(3)
    calls, states = [], [dict_of(policy)]

    def between():
        calls.append(1)
        if len(calls) in moments:
            move(policy, 0.2)
            states.append(dict_of(policy))
            take(served, policy, len(states) - 1)

    served.accept(asked)
    ((_, answers),) = served.work(between)
    seen = {version for answer in answers for version in answer.versions}
    assert seen == set(range(len(states))) - ({0} if 1 in moments else set())
    assert {answer.finish_reason for answer in answers} == {"stop", "length"}
    tolerance = 1e-4 if policy.dtype is torch.float32 else 0.06
    crossed = 0
    for version, state in enumerate(states):
        state_put(policy, state)
        told = logps(policy, asked, answers)
        for number, answer in enumerate(answers):
            assert answer.versions == sorted(answer.versions)
            for place, drawn_by in enumerate(answer.versions):
                gap = abs(told[number][place] - answer.logps[place])
                if drawn_by == version:
                    assert gap < tolerance, (number, place)
                crossed += drawn_by != version and gap > 2 * tolerance
    # The versions do differ in what they say of these tokens.
    assert crossed > 20 or 1 in moments


def dict_of(policy):
    return {name: each.detach().clone() for name, each in policy.parameters()}


def state_put(policy, state):
    with torch.no_grad():
        for name, parameter in policy.parameters():
            parameter.copy_(state[name])


def test_a_ticket_that_nobody_wants_leaves_the_line(tmp_path):
    policy = make_policy()
    served, how = made(policy, tmp_path), Sampling(12)
    for number in (1, 2, 3, 4):
        served.accept(ticket(policy, how, number))
    for number in (1, 3):
        served.drop(number)
    ticks = iter(range(100))

    def between():
        if next(ticks) == 3:
            served.drop(2)

    assert served.work(between) == [] and next(ticks) == 4
    ((number, answers),) = served.work(nothing)
    assert number == 4 and len(answers) == 16 and not served.busy


def test_what_the_trainer_waits_for_goes_before_what_is_drawn_ahead(tmp_path):
    policy = make_policy()
    served, how = made(policy, tmp_path), Sampling(6)
    for number in (1, 2):
        served.accept(ticket(policy, how, number))
    ticks = iter(range(100))

    def between():
        if next(ticks) == 2:
            served.accept(replace(ticket(policy, how, 3), urgent=True))

    done = [number for _ in range(3) for number, _ in served.work(between)]
    assert done == [1, 3, 2]
    served.accept(ticket(policy, how, 4))
    served.accept(replace(ticket(policy, how, 5), urgent=True))
    assert [number for _ in range(2) for number, _ in served.work(nothing)] == [5, 4]


def test_a_model_that_no_configuration_describes_is_refused(tmp_path):
    policy = make_policy()
    policy.model.config.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"llama"', '"homemade"'))
    with pytest.raises(ValueError, match=r'rollout\.placement: .* set it to "colocated"'):
        ServedNative(str(tmp_path), told_of(policy), torch.device("cpu"))


def test_a_model_that_comes_out_otherwise_is_refused(tmp_path):
    policy = make_policy()
    served = made(policy, tmp_path)
    with (
        holding({"model.extra.weight": torch.zeros(2)}) as memory,
        pytest.raises(ValueError, match=r"it has no model\.extra\.weight then"),
    ):
        served.take(memory, 1)
