"""Normalisers belong to the optimizer batch: splits, copies, masked rows, absolute values."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from tests.trainer.engine.support import make_policy, tiny_spec
from tests.trainer.known_bugs.support import (
    apart,
    built,
    gathered,
    gradient,
    gradient_by_hand,
    loss_of,
    nudged,
    objectives,
    picked,
    rollouts,
    sampled_answers,
    token_mean,
    trained,
)

AGGREGATIONS = ["token-mean", "sequence-mean", "constant"]


def split_gradients(session, overrides, budgets):
    found, pieces = [], []
    for budget in budgets:
        options = [*overrides, f"batch.tokens_per_microbatch={budget}"]
        learner, state, means = gathered(session, make_policy(), *options, nudge=0.01)
        kind = type(learner.spec.objective)
        with mock.patch.object(kind, "loss", autospec=True, side_effect=kind.loss) as loss:
            found.append(gradient(learner, state, means)[:2])
        pieces.append(loss.call_count)
    assert pieces[-1] > pieces[0] or type(learner.spec.objective).couples
    return found


@pytest.mark.parametrize("name", trained("rollouts"))
def test_bug_01_a_split_batch_has_the_gradient_of_the_whole_one(session, name):
    (loss, grad), *others = split_gradients(session, objectives()[name], (1 << 20, 60, 1))
    assert float(grad.norm()) > 1e-3
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, rel=1e-6, abs=1e-6)
        assert apart(other, grad) < 2e-6


@pytest.mark.parametrize("name", trained("demonstrations", "pairs", "labels", "ratings"))
def test_bug_04_offline_micro_batches_sum_and_are_not_averaged(session, name):
    (loss, grad), *others = split_gradients(session, objectives()[name], (1 << 20, 60, 1))
    assert float(grad.norm()) > 1e-3
    for other_loss, other in others:
        assert other_loss == pytest.approx(loss, rel=1e-6, abs=1e-6)
        assert apart(other, grad) < 2e-6


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_bug_02_loss_and_gradient_have_the_value_worked_out_by_hand(session, aggregation, budget):
    policy = make_policy()
    learner, state, means = gathered(
        session,
        policy,
        "objective.type=grpo",
        f"objective.aggregation={aggregation}",
        f"batch.tokens_per_microbatch={budget}",
    )
    answers = sampled_answers(session, policy)
    assert len(answers) == 16
    most = learner.spec.rollout.max_new_tokens
    shares = token_mean(answers)
    if aggregation == "sequence-mean":
        shares = [torch.full((len(a.tokens),), 1 / len(a.tokens) / 16) for a in answers]
    if aggregation == "constant":
        shares = [torch.full((len(a.tokens),), 1 / most / 16) for a in answers]
    wanted, by_hand = gradient_by_hand(policy, answers, shares)
    value, grad, _ = gradient(learner, state, means)
    assert value == pytest.approx(wanted, abs=1e-6)
    assert apart(grad, by_hand) < 1e-5


@pytest.mark.parametrize("name", objectives("rollouts"))
def test_bug_05_a_batch_of_copies_has_the_loss_of_one(name):
    objective, batch = built(name), rollouts()
    twice = picked(batch, [*range(6), *range(6)])
    twice.group_B = twice.group_B + 3 * (torch.arange(12) >= 6)
    loss, grads = loss_of(objective, batch)
    doubled, double_grads = loss_of(objective, twice)
    assert float(grads["logp_BT"].norm()) > 1e-3
    assert float(doubled.value) == pytest.approx(float(loss.value), rel=1e-6)
    for key, grad in grads.items():
        assert torch.allclose(double_grads[key][:6] + double_grads[key][6:], grad, atol=1e-6)


@pytest.mark.parametrize("name", trained("demonstrations", "pairs", "labels", "ratings"))
def test_bug_05_offline_copies_change_no_loss(session, name):
    learner, state, means = gathered(session, make_policy(), *objectives()[name], nudge=0.01)
    loss, grad, _ = gradient(learner, state, means)
    learner.examples = [*learner.examples, *learner.examples]
    doubled, double_grad, _ = gradient(learner, state)
    assert doubled == pytest.approx(loss, rel=1e-6, abs=1e-6)
    assert apart(double_grad, grad) < 1e-5


@pytest.mark.parametrize(
    "name", [n for n in objectives("rollouts") if n.endswith(tuple(AGGREGATIONS))]
)
def test_bug_06_a_masked_answer_counts_as_its_aggregation_says(name):
    """Absent under token-mean; still one of N answers under sequence-mean and constant, as in 1/G."""
    objective, batch = built(name), rollouts()
    rest = [0, 1, 2, 3, 5]
    absent, absent_grads = loss_of(objective, picked(batch, rest))
    batch.mask_BT[4] = False
    masked, masked_grads = loss_of(objective, picked(batch, list(range(6))))
    factor = 1.0 if name.endswith("token-mean") else 5 / 6
    assert float(absent.value) != 0
    assert float(masked.value) == pytest.approx(factor * float(absent.value), rel=1e-6)
    for key, grad in masked_grads.items():
        assert not grad[4].any()
        assert torch.allclose(grad[rest], factor * absent_grads[key], atol=1e-6)


@pytest.mark.parametrize("name", trained("rollouts"))
def test_bug_11_answers_that_share_a_row_stay_answers_of_their_own(session, name):
    found = []
    for shared in (True, False):
        policy = make_policy()
        assert policy.shared_prefix
        policy.shared_prefix = shared
        learner, state, means = gathered(session, policy, *objectives()[name])
        nudged(policy, 0.01)
        found.append(gradient(learner, state, means)[:2])
    (loss, grad), (other_loss, other) = found
    assert loss == pytest.approx(other_loss, abs=1e-6)
    assert apart(grad, other) < 2e-6


def test_bug_07_a_rejected_answer_makes_the_kept_ones_count_no_more():
    """The denominator is counted before the rejection: what is kept keeps its share."""
    plain = tiny_spec("objective.type=grpo").objective
    strict = tiny_spec("objective.type=grpo", "objective.off_policy_delta=0.05").objective
    batch = rollouts()
    batch.advantage_BT[:] = -1.0
    drift_B = torch.where(batch.mask_BT, batch.old_logp_BT - batch.logp_BT, 0.0).sum(-1)
    dropped_B = drift_B / batch.mask_BT.sum(-1) > 0.05
    assert 0 < int(dropped_B.sum()) < len(dropped_B)
    _, grads = loss_of(plain, batch)
    loss, strict_grads = loss_of(strict, batch)
    assert not strict_grads["logp_BT"][dropped_B].any()
    assert torch.equal(strict_grads["logp_BT"][~dropped_B], grads["logp_BT"][~dropped_B])
    rejected, answers = loss.means["off_policy_masked_frac"]
    assert (rejected, answers) == (float(dropped_B.sum()), 6.0)


def test_bug_07_filtered_answers_leave_the_denominator_of_the_tokens():
    """Overlong filtering is the other convention: under token-mean the answer is as if absent."""
    objective = tiny_spec("objective.type=grpo", "objective.mask_truncated=true").objective
    batch = rollouts()
    cut = batch.truncated_B.nonzero()[:, 0].tolist()
    rest = [row for row in range(6) if row not in cut]
    assert cut and rest
    loss, grads = loss_of(objective, batch)
    absent, absent_grads = loss_of(objective, picked(batch, rest))
    assert float(loss.value) == pytest.approx(float(absent.value), rel=1e-6)
    assert not grads["logp_BT"][cut].any()
    assert torch.allclose(grads["logp_BT"][rest], absent_grads["logp_BT"], atol=1e-6)
