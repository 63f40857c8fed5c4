"""The making of a rollout batch: how answers are drawn, and the greedy ones beside them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.engine.test_learners import make_learner
from trainer.engine import generation
from trainer.engine.means import Means
from trainer.engine.packing import micro_batches
from trainer.engine.sampler import Sampled, Sampling, sample
from trainer.engine.scoring import score
from trainer.engine.seeds import sample_keys
from trainer.registry import Outcomes, family

GRPO = "objective.type=grpo"


@pytest.fixture
def drawn(monkeypatch):
    """How answers were asked for, call by call."""
    asked = []

    def noted(policy, prompts, keys, how, **named):
        asked.append((how, keys.shape))
        return sample(policy, prompts, keys, how, **named)

    monkeypatch.setattr(generation, "sample", noted)
    return asked


@pytest.mark.parametrize(
    ("knob", "how"),
    [
        ("temperature=0.7", Sampling(5, temperature=0.7)),
        ("top_p=0.8", Sampling(5, top_p=0.8)),
        ("top_k=4", Sampling(5, top_k=4)),
        ("min_p=0.1", Sampling(5, min_p=0.1)),
        ("max_new_tokens=3", Sampling(3)),
    ],
)
def test_every_knob_of_the_rollout_reaches_the_sampler(session, drawn, knob, how):
    learner, state = make_learner(session, make_policy(), GRPO, f"rollout.{knob}")
    learner.gather(state, Means())
    assert drawn == [(how, (4, 4))]


def test_an_advantage_is_given_every_part_of_the_reward_with_its_weight(session, monkeypatch):
    gdpo, given = family("advantages")["gdpo"], []
    advantages = gdpo.advantages

    def noted(self, outcomes):
        given.append(outcomes)
        return advantages(self, outcomes)

    monkeypatch.setattr(gdpo, "advantages", noted)
    policy = make_policy()
    parts = (
        'rewards=[{type = "exact-match", weight = 2.0}, '
        '{type = "length-window", max_tokens = 5, ramp = 3, weight = -0.5}]'
    )
    learner, state = make_learner(session, policy, GRPO, "advantage.type=gdpo", parts)
    learner.gather(state, Means())
    (outcomes,) = given
    examples, _ = learner.cursor.take(state.visited, 4)
    answers = list(as_sampled(learner.buffer))
    scored = score(policy, learner.spec.rewards, examples, answers, lambda: None)
    columns = [scored.parts["exact-match"], scored.parts["length-window"]]
    assert torch.allclose(outcomes.parts_NK, torch.tensor(columns).T)
    assert len(set(columns[1])) > 1
    assert outcomes.part_weight_K.tolist() == [2.0, -0.5]
    assert torch.allclose(outcomes.parts_NK @ outcomes.part_weight_K, outcomes.reward_N)
    assert outcomes.group_N.tolist() == [group for group in range(4) for _ in range(4)]
    assert torch.equal(outcomes.mask_NT, learner.buffer.mask_NA)


def test_the_critic_s_values_are_in_advantages_and_returns(session):
    """Those of each token's own state: of a critic that has learned something, a new one says 0."""
    learner, state = make_learner(session, make_policy(), "objective.type=ppo")
    critic, gae = learner.critic, learner.spec.advantage
    with torch.no_grad():
        critic.head.weight.normal_(generator=torch.Generator().manual_seed(0))
    learner.gather(state, Means())
    buffer, mask_NA = learner.buffer, learner.buffer.mask_NA
    with torch.no_grad():
        for answer, length in enumerate(mask_NA.sum(-1).tolist()):
            (rows,) = micro_batches(buffer.sequences, [answer], budget=1 << 30, shared=False)
            value_T = critic.values(buffer.sequences, [answer], rows)[0]
            assert torch.allclose(buffer.value_NA[answer, :length], value_T, atol=1e-5)
    assert float(buffer.value_NA[mask_NA].std()) > 0.01
    examples, _ = learner.cursor.take(state.visited, 4)
    answers = list(as_sampled(buffer))
    totals = score(learner.policy, learner.spec.rewards, examples, answers, lambda: None).totals
    outcomes = Outcomes(
        torch.tensor(totals), buffer.group_N, mask_NA, value_NT=buffer.value_NA.clone()
    )
    wanted_NA = gae.advantages(outcomes)
    assert torch.allclose(buffer.advantage_NA, wanted_NA, atol=1e-6)
    assert torch.allclose(buffer.return_NA, gae.returns(outcomes), atol=1e-6)
    without = dataclasses.replace(outcomes, value_NT=torch.zeros_like(buffer.value_NA))
    assert not torch.allclose(wanted_NA, gae.advantages(without), atol=1e-2)


def test_the_greedy_answer_is_scored_and_not_trained_on(session, monkeypatch, drawn):
    """With a reward that tells texts apart, so that no other answer would do in its place."""

    def telling(self, answer):
        return sum((i + 1) * ord(c) for i, c in enumerate(answer.text)) % 101 / 101

    monkeypatch.setattr(family("rewards")["exact-match"], "score", telling)
    policy = make_policy()
    learner, state = make_learner(session, policy, GRPO, "advantage.type=remax")
    values = learner.gather(state, Means())
    assert drawn == [(Sampling(5), (4, 4)), (Sampling(5, temperature=0.0), (4, 1))]
    examples, _ = learner.cursor.take(state.visited, 4)
    prompts = [example.prompt for example in examples]
    keys = sample_keys(7, "anything", 1, list(range(4)), 1)
    best = sample(policy, prompts, keys, Sampling(5, 0.0), budget=1 << 30, tick=lambda: None)
    wanted = score(policy, learner.spec.rewards, examples, best, lambda: None).totals
    buffer = learner.buffer
    assert len(buffer.sequences.answers) == 16
    assert values["reward_greedy"] == pytest.approx(sum(wanted) / 4)
    sampled = [
        score(policy, learner.spec.rewards, examples, [item], lambda: None).totals[0]
        for item in as_sampled(buffer)
    ]
    baseline = torch.tensor(wanted)[buffer.group_N]
    assert torch.allclose(buffer.advantage_N, torch.tensor(sampled) - baseline, atol=1e-6)
    assert float(buffer.advantage_N.abs().max()) > 0.1


def as_sampled(buffer):
    for tokens, prompt, cut in zip(
        buffer.sequences.answers, buffer.sequences.prompt_of, buffer.truncated_N, strict=True
    ):
        zeros = [0.0] * len(tokens)
        yield Sampled(prompt, tokens, zeros, zeros, "length" if cut else "stop", zeros)
