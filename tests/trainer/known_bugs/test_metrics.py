"""Metrics recomputed by brute force from the published samples and plain forward passes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.trainer.engine.support import make_policy
from tests.trainer.known_bugs.support import (
    gathered,
    gradient,
    make_learner,
    nudged,
    sampled_answers,
)
from trainer.engine.means import Means
from trainer.registry import family

LOW, HIGH = 0.2, 0.28


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_bug_45_an_updates_metrics_are_those_of_its_tokens(session, graded, beta):
    """Denominators are tokens of the step, whatever the micro-batches, their padding and their silence."""
    policy, reference = make_policy(), make_policy(seed=7)
    learner, state, means = gathered(
        session, policy, "objective.type=grpo", f"objective.beta={beta}",
        "batch.tokens_per_microbatch=60", reference=reference,
    )  # fmt: skip
    nudged(policy, 0.03)
    _, _, values = gradient(learner, state, means)
    ratios, advantages, gaps, differences = [], [], [], []
    for answer in sampled_answers(session, policy):
        with torch.no_grad():
            logp_T, ref_T = answer.logp_T(policy), answer.logp_T(reference)
        difference_T = logp_T - torch.tensor(answer.logps)
        ratios += difference_T.exp().tolist()
        differences += difference_T.abs().tolist()
        advantages += [answer.advantage] * len(answer.tokens)
        gaps += (logp_T - ref_T).tolist()
    ratio, advantage, gap = np.array(ratios), np.array(advantages), np.array(gaps)
    low = (ratio < 1 - LOW) & (advantage < 0)
    high = (ratio > 1 + HIGH) & (advantage > 0)
    assert low.any() and high.any() and not (low | high).all()
    wanted = {
        "clip_ratio/low_mean": low.mean(),
        "clip_ratio/high_mean": high.mean(),
        "clip_ratio/region_mean": (low | high).mean(),
        "ess": ratio.sum() ** 2 / (ratio**2).sum() / len(ratio),
        "rollout/logp_diff_mean": np.mean(differences),
        "rollout/logp_diff_max": np.max(differences),
    }
    if beta:
        wanted["kl"] = np.mean(np.exp(-gap) + gap - 1)
    assert {key: values[key] for key in wanted} == pytest.approx(wanted, rel=2e-4)


def test_the_effective_sample_size_counts_only_tokens_whose_ratio_is_known(session, graded):
    """Silent answers get no forward pass: taken as ratios of 1 they would make any update look on policy."""
    policy = make_policy()
    learner, state, means = gathered(session, policy, "objective.type=grpo")
    learner.buffer.advantage_NA[:4] = 0
    nudged(policy, 0.1)
    _, _, values = gradient(learner, state, means)
    assert values["groups/skipped_tokens_frac"] > 0
    heard = [answer for answer in sampled_answers(session, policy)[4:] if answer.advantage]
    with torch.no_grad():
        logps = [answer.logp_T(policy) - torch.tensor(answer.logps) for answer in heard]
    ratio = torch.cat(logps).double().exp().numpy()
    wanted = ratio.sum() ** 2 / (ratio**2).sum() / len(ratio)
    assert wanted < 0.97
    assert values["ess"] == pytest.approx(wanted, rel=2e-4)


def test_bug_45_a_rollouts_metrics_are_those_of_its_answers(session, graded):
    policy = make_policy()
    options = [
        "objective.type=grpo",
        "advantage.type=group-mean-std",
        "advantage.scale=batch",
        "rollout.temperature=0.8",
    ]
    learner, state = make_learner(session, policy, *options)
    values = learner.gather(state, Means())
    answers = sampled_answers(session, policy)
    groups = [[a for a in answers if a.group == group] for group in range(4)]
    lengths = np.array([len(a.tokens) for a in answers])
    stopped = np.array([a.event["finish_reason"] == "stop" for a in answers])
    rewards = np.array([[a.event["reward"] for a in group] for group in groups])
    entropy = 0.0
    for answer in answers:
        with torch.no_grad():
            logp_TV = (answer.logits_TV(policy) / 0.8).log_softmax(-1)
        entropy -= float((logp_TV.exp() * logp_TV).sum())
    exact = np.array([a.event["rewards"]["exact-match"] for a in answers])
    wanted = {
        "completions/mean_length": lengths.mean(),
        "completions/min_length": lengths.min(),
        "completions/max_length": lengths.max(),
        "completions/clipped_ratio": 1 - stopped.mean(),
        "completions/mean_terminated_length": lengths[stopped].mean(),
        "completions/min_terminated_length": lengths[stopped].min(),
        "completions/max_terminated_length": lengths[stopped].max(),
        "entropy": entropy / lengths.sum(),
        "reward": rewards.mean(),
        "reward_std": rewards.std(axis=1, ddof=1).mean(),
        "rewards/exact-match/mean": exact.mean(),
        "rewards/exact-match/std": exact.std(ddof=1),
        # By group, although advantages are scaled by the batch.
        "frac_reward_zero_std": (rewards.std(axis=1) == 0).mean(),
    }
    assert 0 < stopped.sum() < len(stopped)
    assert {key: values[key] for key in wanted} == pytest.approx(wanted, rel=1e-5)


def test_bug_45_the_fraction_of_equal_groups_is_counted_by_group(session, monkeypatch, graded):
    exact = family("rewards")["exact-match"]
    score = exact.score
    monkeypatch.setattr(exact, "score", lambda self, a: 0.25 if "3" in a.prompt else score(self, a))
    options = [
        "objective.type=grpo",
        "advantage.type=group-mean-std",
        "advantage.scale=batch",
        'rewards=[{type = "exact-match"}]',
    ]
    policy = make_policy()
    learner, state = make_learner(session, policy, *options)
    values = learner.gather(state, Means())
    flat = {a.group for a in sampled_answers(session, policy) if "3" in a.event["prompt"]}
    assert 0 < len(flat) < 4
    assert values["frac_reward_zero_std"] == len(flat) / 4


def test_bug_45_means_over_steps_are_weighted_by_what_they_stand_on():
    means = Means()
    means.add("a", 3.0, 1)
    means.add("a", 1.0, 3)
    means.add("nothing", 0.0, 0)
    assert means.values() == {"a": 1.0}


def test_bug_45_token_accuracy_and_entropy_of_demonstrations_are_by_token(session):
    policy = make_policy()
    learner, state, means = gathered(session, policy, "objective.type=sft", nudge=0.01)
    loss, _, values = gradient(learner, state, means)
    hits, nll, entropy, tokens = 0, 0.0, 0.0, 0
    for example in learner.examples:
        answer = example.answers[0]
        ids = torch.tensor([example.prompt + answer])
        with torch.no_grad():
            logits = policy.model(input_ids=ids, use_cache=False).logits[0]
        logp_TV = logits[len(example.prompt) - 1 : -1].log_softmax(-1)
        hits += int((logp_TV.argmax(-1) == torch.tensor(answer)).sum())
        nll -= float(logp_TV.gather(1, torch.tensor(answer)[:, None]).sum())
        entropy -= float((logp_TV.exp() * logp_TV).sum())
        tokens += len(answer)
    assert loss == pytest.approx(nll / tokens, rel=1e-5)
    assert values["mean_token_accuracy"] == pytest.approx(hits / tokens)
    assert values["entropy"] == pytest.approx(entropy / tokens, rel=1e-5)
    assert math.isfinite(loss) and 0 < hits < tokens
