"""REINFORCE: advantage times log-probability; the ratio form has the same gradient on policy."""

from __future__ import annotations

import numpy as np
import torch

from tests.trainer.objectives.rollouts import assert_by_hand, objective, outcome, rollouts
from trainer.engine.batches import Rollouts


def test_it_equals_a_plain_computation() -> None:
    assert_by_hand(objective("reinforce"), lambda row: -row.advantage * row.logp)
    ratio = objective("reinforce", importance_ratio=True, aggregation="prompt-mean")
    assert_by_hand(ratio, lambda row: -row.advantage * np.exp(row.logp - row.old))


def test_both_forms_have_one_gradient_on_policy() -> None:
    batch = rollouts(spread=0.0)
    plain = outcome(objective("reinforce"), batch)[1]["logp_BT"]
    ratio = outcome(objective("reinforce", importance_ratio=True), batch)[1]["logp_BT"]
    assert torch.allclose(plain, ratio, rtol=1e-6, atol=1e-9)


def test_the_ratio_form_is_right_off_policy_by_enumeration() -> None:
    """E under pi_old of the gradient equals the gradient of E under pi of the advantage."""
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.double, requires_grad=True)
    old = torch.randn(6, dtype=torch.double).log_softmax(0)
    advantage = torch.randn(6, dtype=torch.double)
    logp = logits.log_softmax(0)
    (wanted,) = torch.autograd.grad(-(logp.exp() * advantage).sum(), logits, retain_graph=True)
    found = {}
    for ratio in (True, False):
        batch = Rollouts(
            mask_BT=torch.ones(6, 1, dtype=torch.bool),
            old_logp_BT=old[:, None],
            advantage_BT=advantage[:, None],
            group_B=torch.zeros(6, dtype=torch.long),
            max_new_tokens=1,
            weight_BT=old.exp()[:, None],
            logp_BT=logp[:, None],
        )
        loss = objective("reinforce", importance_ratio=ratio).loss(batch)
        (found[ratio],) = torch.autograd.grad(loss.value, logits, retain_graph=True)
    assert (found[True] - wanted).norm() / wanted.norm() < 1e-10
    assert (found[False] - wanted).norm() / wanted.norm() > 0.1
