"""What is masked out has no influence; what is trained on includes the end."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from tests.trainer.known_bugs.support import (
    GRADED,
    apart,
    built,
    gathered,
    gradient,
    gradient_by_hand,
    loss_of,
    objectives,
    one_of_each,
    rollouts,
    sampled_answers,
    token_mean,
    trained,
)
from trainer.engine.means import Means
from trainer.engine.sampler import Sampling, sample
from trainer.engine.seeds import sample_keys
from trainer.engine.update import optimizer_step
from trainer.registry import family


def padding_filled(batch, value_of):
    """The batch with other numbers where its mask is False."""
    changes = {
        field.name: torch.where(batch.mask_BT, value, value_of(value))
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
        and value.is_floating_point()
        and value.shape == batch.mask_BT.shape
    }
    assert len(changes) > 5
    return dataclasses.replace(batch, **changes)


@pytest.mark.parametrize("name", objectives("rollouts"))
def test_bug_08_a_batch_whose_every_token_is_masked_has_loss_and_gradient_0(name):
    batch = rollouts()
    batch.mask_BT = torch.zeros_like(batch.mask_BT)
    loss, grads = loss_of(built(name), batch)
    assert float(loss.value) == 0
    assert all(torch.equal(grad, torch.zeros_like(grad)) for grad in grads.values())
    assert all(math.isfinite(total) for total, _ in loss.means.values())


@pytest.mark.parametrize("name", trained("rollouts"))
def test_bug_08_a_step_whose_rewards_say_nothing_moves_no_weight(session, monkeypatch, name):
    for tag in ("exact-match", "length-window"):
        monkeypatch.setattr(family("rewards")[tag], "score", lambda self, answer: None)
    policy = make_policy()
    learner, state, means = gathered(session, policy, *objectives()[name])
    before = [p.clone() for p in policy.model.parameters()]
    optimizer = learner.spec.optimizer.build(policy.parameters())
    # A term beside the advantage, as DPPO has, is at its minimum but for rounding.
    silent = learner.spec.objective.silent_without_advantage
    steps = 2 if silent else 1
    for _ in range(steps):
        values = optimizer_step(
            policy, optimizer, learner.losses(state, means), means,
            lr=1e-3, max_grad_norm=1.0, tick=nothing,
        )  # fmt: skip
        assert abs(values["loss"]) < (1e-30 if silent else 1e-8)
        assert values["grad_norm"] < (1e-30 if silent else 1e-8)
    for old, new in zip(before, policy.model.parameters(), strict=True):
        assert torch.allclose(old, new, rtol=0, atol=0 if silent else 3e-4)
    assert {int(held["step"]) for held in optimizer.state.values()} == {steps}


@pytest.mark.parametrize("name", objectives("rollouts"))
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_bug_09_nan_and_infinity_in_padding_do_not_leak(name, poison):
    batch = rollouts()
    loss, grads = loss_of(built(name), batch)
    filled = padding_filled(batch, lambda value: torch.full_like(value, poison))
    poisoned, poisoned_grads = loss_of(built(name), filled)
    assert math.isfinite(float(loss.value)) and float(loss.value) == float(poisoned.value)
    assert poisoned.means == loss.means
    for key in GRADED:
        assert torch.equal(grads[key], poisoned_grads[key])


@pytest.mark.parametrize("name", objectives("rollouts"))
def test_bug_10_numbers_in_padding_change_no_bit_of_a_loss(name):
    batch = rollouts()
    loss, grads = loss_of(built(name), batch)
    other, other_grads = loss_of(built(name), padding_filled(batch, lambda value: value - 3.0))
    assert float(loss.value) == float(other.value) and loss.means == other.means
    for key in GRADED:
        assert torch.equal(grads[key], other_grads[key])
        assert not grads[key][~batch.mask_BT].any()


@pytest.mark.parametrize("name", trained())
def test_bug_10_padding_tokens_change_no_bit_of_a_step(session, name):
    policy = make_policy()
    learner, state, means = gathered(session, policy, *objectives()[name], nudge=0.01)
    before = gradient(learner, state, means)
    policy.pad_id = 5
    after = gradient(learner, state)
    assert before[0] == after[0] and torch.equal(before[1], after[1])


def test_bug_17_the_end_of_an_answer_is_trained_on(session, graded):
    policy = make_policy(tied=False)
    options = ["objective.type=grpo", "rollout.max_new_tokens=16"]
    learner, state, means = gathered(session, policy, *options)
    answers = sampled_answers(session, policy)
    ended = [answer.tokens[-1] in policy.eos_ids for answer in answers]
    assert 2 < sum(ended) < len(answers)
    _, grad, _ = gradient(learner, state, means)
    shares = token_mean(answers)
    assert apart(grad, gradient_by_hand(policy, answers, shares)[1]) < 1e-5
    for share_T, end in zip(shares, ended, strict=True):
        share_T[-1] *= not end
    assert apart(gradient_by_hand(policy, answers, shares)[1], grad) > 0.05


def test_bug_17_a_reward_for_short_answers_teaches_to_stop(runs):
    options = ["rewards.0.weight=0", "rewards.1.max_tokens=5", "rewards.1.ramp=4"]
    options += ["rollout.max_new_tokens=8", "budget.max_steps=25", "data.eval=[]"]
    options += ["optimizer.lr=0.02", "rollout.group_size=8"]
    assert runs.run("short", "objective.type=grpo", *options) == 0
    found = runs.metrics("short")
    lengths = [found[step, "completions/mean_length"] for step in range(1, 26)]
    assert sum(lengths[:3]) / 3 > 4
    assert sum(lengths[-3:]) / 3 < 2


@pytest.mark.parametrize("name", one_of_each())
def test_bug_18_the_end_counts_though_it_is_the_padding_token_too(session, name):
    policy = make_policy()
    learner, state, means = gathered(session, policy, *objectives()[name], nudge=0.01)
    before = gradient(learner, state, means)
    policy.pad_id = policy.tokenizer.pad_token_id = policy.eos_ids[0]
    after = gradient(learner, state)
    assert before[0] == after[0] and torch.equal(before[1], after[1])


def test_bug_18_sampled_answers_keep_their_end_though_it_is_the_padding_token():
    policy = make_policy()
    prompts = policy.tokenizer(["sort 5 = ", "sort 314 = "])["input_ids"]
    keys = sample_keys(0, "train", 1, [0, 1], 16)
    found = []
    for pad in (policy.pad_id, policy.eos_ids[0]):
        policy.pad_id = pad
        answers = sample(policy, prompts, keys, Sampling(8), budget=1 << 30, tick=nothing)
        found.append([(a.tokens, a.finish_reason) for a in answers])
    assert found[0] == found[1]
    stopped = [tokens for tokens, reason in found[1] if reason == "stop"]
    assert stopped and all(tokens.count(policy.eos_ids[0]) == 1 for tokens in stopped)


def test_bug_19_any_of_several_end_tokens_ends_an_answer_and_none_is_called_cut_off(session):
    policy = make_policy()
    seven = policy.tokenizer.convert_tokens_to_ids("7")
    policy.eos_ids = (*policy.eos_ids, seven)
    learner, state, _ = gathered(session, policy, "objective.type=grpo")
    answers = sampled_answers(session, policy)
    by_seven = [a for a in answers if a.tokens[-1] == seven]
    assert by_seven
    for answer in answers:
        ended = answer.tokens[-1] in policy.eos_ids
        assert answer.event["finish_reason"] == ("stop" if ended else "length")
        assert ended or len(answer.tokens) == learner.spec.rollout.max_new_tokens
        assert not set(answer.tokens[:-1]) & set(policy.eos_ids)
    values = learner.gather(state, Means())
    cut = [answer for answer in answers if answer.event["finish_reason"] == "length"]
    assert values["completions/clipped_ratio"] == pytest.approx(len(cut) / len(answers))
