"""Batch mean: REINFORCE's plain baseline, one answer per prompt."""

from __future__ import annotations

import numpy as np
import torch

from tests.trainer.advantages.support import NAN, estimate, outcomes

REWARDS = np.array([1.0, 0.0, 0.5, 0.2])


def test_the_baseline_is_the_batch_s_mean() -> None:
    found = estimate("batch-mean", outcomes(REWARDS.tolist(), [0, 1, 2, 3]))
    np.testing.assert_allclose(found.numpy(), REWARDS - REWARDS.mean(), rtol=1e-6)


def test_it_can_be_divided_by_the_batch_s_deviation() -> None:
    wanted = (REWARDS - REWARDS.mean()) / (REWARDS.std(ddof=1) + 1e-4)
    found = estimate("batch-mean", outcomes(REWARDS.tolist(), [0, 1, 2, 3]), scale="batch")
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_an_all_equal_group_is_judged_against_the_batch() -> None:
    found = estimate("batch-mean", outcomes([1.0, 1.0, 0.0, 0.0, NAN], [0, 0, 1, 1, 1]))
    assert found.tolist() == [0.5, 0.5, -0.5, -0.5, 0.0]


def test_a_batch_of_equal_rewards_is_silent() -> None:
    given = outcomes([0.1] * 7, list(range(7)), dtype=torch.float64)
    for scale in ("none", "batch"):
        assert estimate("batch-mean", given, scale=scale).tolist() == [0.0] * 7


def test_the_penalty_comes_off_the_reward() -> None:
    given = outcomes([1.0, 1.0], [0, 1], penalty_NT=torch.tensor([[0.5], [0.0]]))
    assert estimate("batch-mean", given).tolist() == [-0.25, 0.25]
