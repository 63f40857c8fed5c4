"""GMPO: a geometric mean of ratios that are clipped in log space on one side."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, outcome, rollouts


def geometric(row: Row, low: float = 0.4, high: float = 0.4) -> float:
    gap, advantage = row.logp - row.old, row.advantage.mean()
    gap = np.minimum(gap, high) if advantage > 0 else np.maximum(gap, -low)
    return -float(np.prod(np.exp(gap)) ** (1 / len(gap))) * advantage


@pytest.mark.parametrize("aggregation", ["sequence-mean", "token-mean"])
def test_it_equals_a_plain_computation(aggregation: str) -> None:
    assert_by_hand(objective("gmpo", aggregation=aggregation), geometric)


def test_its_clip_ratios_count_tokens() -> None:
    batch = rollouts()
    gap, advantage = batch.logp_BT - batch.old_logp_BT, batch.advantage_BT
    low = batch.mask_BT & (gap < -0.2) & (advantage < 0)
    high = batch.mask_BT & (gap > 0.3) & (advantage > 0)
    assert low.any() and high.any()
    method = objective("gmpo", clip_low=0.2, clip_high=0.3)
    metrics = assert_by_hand(method, lambda row: geometric(row, 0.2, 0.3))
    assert metrics["clip_ratio/low_mean"] == pytest.approx(float(low.sum()) / batch.tokens)
    assert metrics["clip_ratio/high_mean"] == pytest.approx(float(high.sum()) / batch.tokens)


def test_the_top_entropy_mask_acts_inside_the_geometric_mean() -> None:
    """Tokens that it takes away leave the mean and its length, not the answer's weight."""
    batch = rollouts()
    entropy = batch.old_entropy_BT
    keep = batch.mask_BT & (entropy >= entropy[batch.mask_BT].float().quantile(0.4))
    wanted = []
    for b in range(8):
        gap = (batch.logp_BT - batch.old_logp_BT)[b][keep[b]].numpy()
        advantage = float(batch.advantage_BT[b, 0])
        gap = np.minimum(gap, 0.4) if advantage > 0 else np.maximum(gap, -0.4)
        wanted.append(-advantage * float(np.exp(gap.sum() / max(1, len(gap)))))
    loss, gradients, _ = outcome(objective("gmpo", top_entropy=0.6), batch)
    assert loss == pytest.approx(np.mean(wanted), rel=1e-6)
    assert gradients["logp_BT"][~keep].abs().sum() == 0
