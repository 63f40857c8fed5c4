"""SAPO: the gate of the paper, whose gradient at ratio 1 is that of the plain ratio."""

from __future__ import annotations

import numpy as np
import torch

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, outcome, rollouts


def gated(row: Row, positive: float, negative: float) -> np.ndarray:
    tau = np.where(row.advantage > 0, positive, negative)
    gate = 4 / tau / (1 + np.exp(-tau * (np.exp(row.logp - row.old) - 1)))
    return -gate * row.advantage


def test_it_equals_a_plain_computation() -> None:
    assert_by_hand(objective("sapo"), lambda row: gated(row, 1.0, 1.05))
    method = objective("sapo", temperature_pos=2.0, temperature_neg=5.0, aggregation="token-mean")
    assert_by_hand(method, lambda row: gated(row, 2.0, 5.0))


def test_on_policy_its_gradient_is_the_policy_gradient() -> None:
    batch = rollouts(spread=0.0)
    gradient = outcome(objective("sapo"), batch)[1]["logp_BT"]
    plain = outcome(objective("reinforce", aggregation="sequence-mean"), batch)[1]["logp_BT"]
    assert torch.allclose(gradient, plain, rtol=1e-6, atol=1e-9)
