"""MaxRL: division by the success rate, and the gradient of the truncated log-likelihood by enumeration."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.advantages.support import Lottery, estimate, method, outcomes


def test_rare_successes_count_the_more() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]])
    mean = rewards.mean(1, keepdims=True)
    found = estimate("maxrl", outcomes(rewards.ravel().tolist(), [0] * 4 + [1] * 4))
    np.testing.assert_allclose(found.numpy(), ((rewards - mean) / mean).ravel(), rtol=1e-6)
    assert found[0] == 3


@pytest.mark.parametrize("rewards", [[0.0, 0.0], [-1.0, 1.0], [-1.0, 0.5]])
def test_a_group_without_a_success_rate_is_silent(rewards: list[float]) -> None:
    """A mean of 0 or less would divide by nothing, or turn the sign of every advantage."""
    assert estimate("maxrl", outcomes(rewards, [0, 0])).tolist() == [0.0, 0.0]


def test_a_penalty_is_centred_but_not_divided() -> None:
    penalty = torch.tensor([[0.3], [0.1]])
    found = estimate("maxrl", outcomes([1.0, 0.0], [0, 0], penalty_NT=penalty))
    np.testing.assert_allclose(found.numpy(), [1 - 0.1, -1 + 0.1], rtol=1e-6)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_its_gradient_is_that_of_log_p_up_to_order_n_minus_1(size: int) -> None:
    """log p = -sum_k (1 - p)^k / k, cut off after k = n - 1 (arXiv 2602.02710)."""
    lottery = Lottery([1.0, 0.0, 0.0], [-0.7, 0.3, 0.1])
    success = lottery.logp_V[0].exp()
    likelihood = -sum((1 - success) ** k / k for k in range(1, size))
    torch.testing.assert_close(
        lottery.policy_gradient(method("maxrl"), size),
        lottery.gradient(likelihood),
        rtol=1e-12,
        atol=1e-15,
    )
