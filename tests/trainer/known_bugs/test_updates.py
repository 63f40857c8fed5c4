"""Several optimizer steps on one batch of rollouts: each has its own denominators and old numbers."""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from tests.trainer.engine.support import make_policy, nothing
from tests.trainer.known_bugs.support import (
    apart,
    gathered,
    gradient,
    gradient_by_hand,
    sampled_answers,
)
from trainer.engine.update import optimizer_step

SUMS = {
    "token-mean": lambda batch: 1.0,
    "sequence-mean": lambda batch: 1.0,
    "prompt-mean": lambda batch: 1.0,
    "constant": lambda batch: batch.tokens / (len(batch.mask_BT) * batch.max_new_tokens),
}


def committed(learner, state):
    """What the loop does behind a step."""
    learner.commit(state)
    state.step += 1


@pytest.mark.parametrize("aggregation", SUMS)
def test_bug_03_every_optimizer_step_is_normalised_by_its_own_answers(session, graded, aggregation):
    """Not by those of the rollout batch: each step's weights sum to what its aggregation says."""
    policy = make_policy()
    learner, state, means = gathered(
        session, policy, "objective.type=grpo", f"objective.aggregation={aggregation}",
        "batch.minibatches=3", "batch.updates_per_rollout=2", "batch.tokens_per_microbatch=40",
        "batch.prompts_per_step=5",
    )  # fmt: skip
    kind = type(learner.spec.objective)
    sizes = []
    for step in range(6):
        with (
            mock.patch.object(
                kind, "token_weights", autospec=True, side_effect=kind.token_weights
            ) as weights,
            mock.patch.object(kind, "loss", autospec=True, side_effect=kind.loss) as loss,
        ):
            gradient(learner, state, means)
        (whole,) = [call.args[1] for call in weights.call_args_list]
        used = sum(float(call.args[1].weight_BT.sum()) for call in loss.call_args_list)
        assert used == pytest.approx(SUMS[aggregation](whole), abs=1e-6)
        assert sum(len(call.args[1].mask_BT) for call in loss.call_args_list) == len(whole.mask_BT)
        sizes.append(len(whole.mask_BT))
        committed(learner, state)
        assert state.updates_done == (step + 1) % 6
    # Whole groups of four: five prompts in three parts, in both passes.
    assert sorted(sizes[:3]) == sorted(sizes[3:]) == [4, 8, 8]


def test_bug_03_the_first_minibatch_has_the_gradient_worked_out_by_hand(session, graded):
    policy = make_policy()
    learner, state, means = gathered(
        session, policy, "objective.type=grpo", "batch.minibatches=2", "batch.prompts_per_step=4"
    )
    answers = sampled_answers(session, policy)
    loss, grad, _ = gradient(learner, state, means)
    fits = []
    for groups in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)):
        mine = [answer for answer in answers if answer.group in groups]
        tokens = sum(len(answer.tokens) for answer in mine)
        shares = [torch.full((len(answer.tokens),), 1 / tokens) for answer in mine]
        wanted, by_hand = gradient_by_hand(policy, mine, shares)
        fits.append(abs(loss - wanted) < 1e-6 and apart(grad, by_hand) < 1e-5)
    assert sum(fits) == 1


def test_bug_30_old_log_probabilities_stay_those_of_the_sampler_through_every_update(
    session, graded
):
    """Row by row, whatever the order of the minibatches; the ratio is new over old of the same token."""
    policy = make_policy()
    learner, state, means = gathered(
        session, policy, "objective.type=grpo", "batch.minibatches=2",
        "batch.updates_per_rollout=3", "batch.tokens_per_microbatch=60", "optimizer.lr=0.01",
    )  # fmt: skip
    answers = sampled_answers(session, policy)
    by_logps = {tuple(round(v, 4) for v in answer.logps): answer for answer in answers}
    everything = sorted(tuple(round(v, 4) for v in answer.logps) for answer in answers)
    optimizer = learner.spec.optimizer.build(policy.parameters())
    kind = type(learner.spec.objective)
    order, largest = [], 0.0
    for _ in range(6):
        with torch.no_grad():
            fresh = {id(answer): answer.logp_T(policy) for answer in answers}
        with mock.patch.object(kind, "loss", autospec=True, side_effect=kind.loss) as loss:
            optimizer_step(
                policy, optimizer, learner.losses(state, means), means,
                lr=0.01, max_grad_norm=1.0, tick=nothing,
            )  # fmt: skip
        rows = []
        for call in loss.call_args_list:
            batch = call.args[1]
            for row in range(len(batch.mask_BT)):
                size = int(batch.mask_BT[row].sum())
                old = tuple(round(v, 4) for v in batch.old_logp_BT[row, :size].tolist())
                answer = by_logps[old]
                new_T = batch.logp_BT[row, :size].detach()
                assert torch.allclose(new_T, fresh[id(answer)], atol=1e-5)
                assert float(batch.advantage_BT[row, 0]) == pytest.approx(
                    answer.advantage, abs=1e-5
                )
                largest = max(largest, float((new_T - torch.tensor(answer.logps)).abs().max()))
                rows.append(old)
        order.append(sorted(rows))
        committed(learner, state)
    assert largest > 0.05
    for first in (0, 2, 4):
        assert sorted(order[first] + order[first + 1]) == everything
    # The passes divide the batch anew.
    assert len({tuple(rows) for rows in order}) > 2
