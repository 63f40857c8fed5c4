"""RLOO: numbers by hand, and an unbiased policy gradient by exact enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.advantages.support import Lottery, estimate, method, outcomes

REWARDS = np.array([[1.0, 0.0, 0.5, 0.1], [0.2, 0.2, 0.9, 0.4]])
GROUPS = [0] * 4 + [1] * 4


def leave_one_out(rewards: np.ndarray) -> np.ndarray:
    return np.array(
        [[r - np.delete(row, i).mean() for i, r in enumerate(row)] for row in rewards]
    ).ravel()


def test_the_baseline_is_the_mean_of_the_others() -> None:
    found = estimate("rloo", outcomes(REWARDS.ravel().tolist(), GROUPS))
    np.testing.assert_allclose(found.numpy(), leave_one_out(REWARDS), rtol=1e-6)


def test_normalised_advantages_have_the_batch_s_deviation_of_one() -> None:
    wanted = leave_one_out(REWARDS)
    wanted = (wanted - wanted.mean()) / (wanted.std(ddof=1) + 1e-4)
    found = estimate("rloo", outcomes(REWARDS.ravel().tolist(), GROUPS), normalise=True)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_the_penalty_of_the_whole_answer_comes_off_the_reward() -> None:
    penalty = torch.tensor([[0.1, 0.2], [0.3, 9.0], [0.0, -0.1]])
    given = outcomes([1.0, 0.5, 0.2], [0, 0, 0], lengths=[2, 1, 2], penalty_NT=penalty)
    wanted = leave_one_out(np.array([[1.0 - 0.3, 0.5 - 0.3, 0.2 + 0.1]]))
    np.testing.assert_allclose(estimate("rloo", given).numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_it_leaves_the_policy_gradient_unbiased(size: int) -> None:
    lottery = Lottery([1.0, -0.4, 0.3], [0.2, -0.5, 1.1])
    wanted = lottery.gradient((lottery.logp_V.exp() * lottery.reward_V).sum())
    torch.testing.assert_close(
        lottery.policy_gradient(method("rloo"), size), wanted, rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("size", [2, 3, 4])
def test_the_group_s_own_mean_shrinks_the_gradient(size: int) -> None:
    """By (n - 1) / n, as the baseline holds a share of the answer itself: unlike RLOO it is biased."""
    lottery = Lottery([1.0, -0.4, 0.3], [0.2, -0.5, 1.1])
    own = method("group-mean-std", scale="none")
    wanted = (size - 1) / size * lottery.policy_gradient(method("rloo"), size)
    torch.testing.assert_close(lottery.policy_gradient(own, size), wanted, rtol=1e-12, atol=1e-15)
