"""The critic: its values stand where the log-probabilities stand, and its state is complete."""

from __future__ import annotations

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from trainer.engine.critic import Critic
from trainer.engine.means import Means
from trainer.engine.packing import Sequences, micro_batches
from trainer.engine.update import Diverged

OPTIMIZER = tiny_spec("optimizer.lr=0.01").optimizer
PROMPTS = [[5, 6, 7], [8, 9]]
ANSWERS = [[3, 4, 5, 6], [7], [8, 9, 3], [4, 4]]


def make_critic(policy=None, seed=0):
    critic = Critic(policy or make_policy(), OPTIMIZER)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(seed)
        critic.head.weight.copy_(torch.randn(critic.head.weight.shape, generator=draw))
    return critic


def values_of(critic, wanted=range(4), shared=True):
    sequences = Sequences(PROMPTS, ANSWERS, [0, 0, 1, 1])
    (rows,) = micro_batches(sequences, wanted, budget=1 << 30, shared=shared, packed=shared)
    return critic.values(sequences, list(wanted), rows)


def learn(critic, steps=1):
    for _ in range(steps):
        critic.zero_grad()
        ((values_of(critic) - 1) ** 2).sum().backward()
        critic.clip(1.0, Means())
        critic.step(0.01)


def test_a_new_critic_expects_nothing_and_shares_no_weight_with_the_policy():
    policy = make_policy()
    critic = Critic(policy, OPTIMIZER)
    assert float(values_of(critic).detach().abs().max()) == 0
    before = [parameter.clone() for parameter in policy.model.parameters()]
    learn(critic, 3)
    assert float(values_of(critic).detach().abs().max()) > 0
    for old, new in zip(before, policy.model.parameters(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("shared", [True, False])
def test_a_value_is_that_of_the_state_before_its_token(shared):
    policy = make_policy()
    critic = make_critic(policy)
    with torch.no_grad():
        found_BA = values_of(critic, shared=shared)
        for answer, tokens in enumerate(ANSWERS):
            prompt = PROMPTS[answer // 2]
            hidden_TH = critic.trunk.model(torch.tensor([prompt + tokens])).last_hidden_state[0]
            wanted_T = critic.head(hidden_TH[len(prompt) - 1 : -1])[:, 0]
            assert torch.allclose(found_BA[answer, : len(tokens)], wanted_T, atol=1e-5)
            assert float(found_BA[answer, len(tokens) :].abs().sum()) == 0


def test_its_state_goes_on_to_the_bit():
    one = make_critic()
    learn(one, 3)
    saved = {name: value.clone() for name, value in one.tensors().items()}
    other = make_critic(make_policy(seed=3), seed=1)
    learn(other)
    other.restore(saved)
    learn(one, 2)
    learn(other, 2)
    left, right = one.tensors(), other.tensors()
    assert left.keys() == right.keys() and any("exp_avg" in name for name in left)
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert any(not torch.equal(left[name], saved[name]) for name in left)


def test_gradients_are_clipped_and_reported():
    critic, means = make_critic(), Means()
    critic.zero_grad()
    (1000 * values_of(critic)).sum().backward()
    critic.clip(0.5, means)
    assert means.values()["critic/grad_norm"] > 100
    squares = sum(float((p.grad**2).sum()) for _, p in critic._named())
    assert squares**0.5 == pytest.approx(0.5, rel=1e-4)


def test_a_gradient_that_is_no_number_is_told_before_a_weight_moves():
    critic = make_critic()
    before = critic.tensors()["critic/weights/head.weight"].clone()
    critic.zero_grad()
    (values_of(critic).sum() * torch.nan).backward()
    with pytest.raises(Diverged):
        critic.clip(1.0, Means())
    assert torch.equal(critic.head.weight, before)


def test_the_critic_of_an_adapted_policy_is_a_plain_model():
    peft = pytest.importorskip("peft")
    from trainer.engine.adapted import adapter_attach, is_adapted

    policy = make_policy()
    plain = make_critic(policy)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    adapter_attach(policy.model, config, seed=0)
    critic = make_critic(policy)
    assert is_adapted(policy.model) and not is_adapted(critic.trunk.model)
    names = [name for name, _ in critic._named()]
    assert names == [name for name, _ in plain._named()]
    assert all(parameter.requires_grad for _, parameter in critic._named())
    assert torch.allclose(values_of(critic), values_of(plain), atol=1e-6)
