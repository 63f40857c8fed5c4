"""PPO: the clipped surrogate with advantages per token, and a critic's clipped squared error."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trainer.objectives.rollouts import SPLITS, Row, by_hand, objective, outcome, rollouts


def clipped(row: Row) -> np.ndarray:
    ratio = np.exp(row.logp - row.old)
    return -np.minimum(ratio * row.advantage, np.clip(ratio, 0.8, 1.2) * row.advantage)


@pytest.mark.parametrize("value_clip", [0.3, 0.0])
def test_it_equals_a_plain_computation(value_clip: float) -> None:
    batch = rollouts()
    torch.manual_seed(1)
    batch.advantage_BT = torch.where(
        batch.mask_BT, torch.randn(batch.mask_BT.shape).double(), torch.nan
    )
    value, old, wanted = (
        tensor[batch.mask_BT].numpy()
        for tensor in (batch.value_BT, batch.old_value_BT, batch.return_BT)
    )
    square = (value - wanted) ** 2
    near = np.clip(value, old - value_clip, old + value_clip)
    binds = (near - wanted) ** 2 > square
    if value_clip:
        square = np.maximum(square, (near - wanted) ** 2)
    policy, gradient = by_hand(batch, clipped, "token-mean")
    method = objective("ppo", value_clip=value_clip, vf_coef=0.7)
    for parts in SPLITS:
        loss, found, metrics = outcome(method, batch, parts)
        assert loss == pytest.approx(policy + 0.7 * 0.5 * square.mean(), rel=1e-6)
        assert np.abs(found["logp_BT"].numpy() - gradient).max() <= 1e-6 * np.abs(gradient).max()
        slope = 0.7 * (value - wanted) / len(value)
        # Where the clipped error is the larger one, only values within the clip still move.
        stopped = binds & (np.abs(value - old) > value_clip) if value_clip else np.zeros_like(binds)
        slope = np.where(stopped, 0.0, slope)
        assert found["value_BT"][batch.mask_BT].numpy() == pytest.approx(slope, rel=1e-5, abs=1e-9)
        assert metrics["critic/vf_loss"] == pytest.approx(square.mean() / 2, rel=1e-6)
        assert metrics["policy_loss"] == pytest.approx(policy, rel=1e-6)
        if value_clip:
            assert 0 < metrics["critic/vf_clipfrac"] == pytest.approx(binds.mean())
        else:
            assert "critic/vf_clipfrac" not in metrics


def test_the_critic_learns_where_the_policy_does_not() -> None:
    batch = rollouts()
    batch = replace(batch, advantage_BT=torch.zeros_like(batch.advantage_BT))
    _, gradients, _ = outcome(objective("ppo"), batch)
    assert gradients["logp_BT"].abs().sum() == 0
    assert gradients["value_BT"].abs().sum() > 0


def test_the_top_entropy_mask_does_not_reach_the_critic() -> None:
    plain = outcome(objective("ppo"), rollouts())[1]["value_BT"]
    masked = outcome(objective("ppo", top_entropy=0.3), rollouts())[1]["value_BT"]
    assert torch.equal(plain, masked)


def test_it_asks_for_a_critic() -> None:
    assert "critic" in objective("ppo").uses
    assert objective("ppo").default_advantage == "gae"
