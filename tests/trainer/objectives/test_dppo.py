"""DPPO: a mask in probability, and a pull back that also reaches the masked tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, outcome, rollouts


def kept(row: Row, low: float, high: float, drift: float) -> np.ndarray:
    gap = row.logp - row.old
    moved = np.exp(row.fixed_logp) - np.exp(row.old)
    inside = np.where(row.advantage > 0, moved <= high, moved >= -low)
    return -1.0 * inside * row.advantage * np.exp(gap) + drift * gap**2


@pytest.mark.parametrize(
    ("low", "high", "drift"), [(0.2, 0.2, 1e-3), (0.05, 0.02, 0.5), (0.05, 0.1, 0.0)]
)
def test_it_equals_a_plain_computation(low: float, high: float, drift: float) -> None:
    method = objective("dppo", mask_low=low, mask_high=high, drift_coef=drift)
    assert_by_hand(method, lambda row: kept(row, low, high, drift))


def test_its_clip_ratios_count_masked_tokens() -> None:
    batch = rollouts()
    moved, advantage = batch.logp_BT.exp() - batch.old_logp_BT.exp(), batch.advantage_BT
    low = batch.mask_BT & (moved < -0.05) & (advantage < 0)
    high = batch.mask_BT & (moved > 0.02) & (advantage > 0)
    assert low.any() and high.any()
    method = objective("dppo", mask_low=0.05, mask_high=0.02)
    metrics = assert_by_hand(method, lambda row: kept(row, 0.05, 0.02, 1e-3))
    assert metrics["clip_ratio/low_mean"] == pytest.approx(float(low.sum()) / batch.tokens)
    assert metrics["clip_ratio/high_mean"] == pytest.approx(float(high.sum()) / batch.tokens)


def test_the_pull_back_reaches_what_the_masks_take_away() -> None:
    """Tokens below the entropy quantile and answers that left the policy are held all the same."""
    batch, masks = rollouts(), {"top_entropy": 0.3, "off_policy_delta": 0.05}
    free = outcome(objective("dppo", drift_coef=0.0, **masks), batch)[1]["logp_BT"]
    held = outcome(objective("dppo", drift_coef=0.5, **masks), batch)[1]["logp_BT"]
    assert (free[batch.mask_BT] == 0).sum() > 20
    gap_BT = torch.where(batch.mask_BT, batch.logp_BT - batch.old_logp_BT, 0.0)
    assert torch.allclose(held - free, gap_BT / batch.tokens, rtol=1e-6, atol=1e-9)


def test_without_the_pull_back_an_answer_without_advantage_is_silent() -> None:
    assert not objective("dppo").silent_without_advantage
    assert objective("dppo", drift_coef=0.0).silent_without_advantage
    assert not objective("dppo", drift_coef=0.0, entropy_coef=0.1).silent_without_advantage
