"""OPO: the length-weighted baseline, and where it has the least variance."""

from __future__ import annotations

import numpy as np

from tests.trainer.advantages.support import estimate, outcomes


def test_long_answers_weigh_more_in_the_baseline() -> None:
    rewards, lengths = np.array([1.0, 0.0, 0.5]), np.array([5, 1, 2])
    wanted = rewards - (rewards * lengths).sum() / lengths.sum()
    found = estimate("opo", outcomes(rewards.tolist(), [0] * 3, lengths=lengths.tolist()))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-6)


def test_equal_lengths_give_the_plain_mean() -> None:
    rewards = [1.0, 0.0, 0.5, 0.3]
    found = estimate("opo", outcomes(rewards, [0] * 4, lengths=[3] * 4))
    plain = estimate("group-mean-std", outcomes(rewards, [0] * 4), scale="none")
    np.testing.assert_allclose(found.numpy(), plain.numpy(), rtol=1e-6)


def test_of_all_baselines_it_has_the_least_length_weighted_square() -> None:
    """Where the squared score function grows with length, this is the gradient's variance."""
    rewards, lengths = np.array([1.0, 0.0, 0.5, 0.7]), np.array([5, 1, 2, 4])
    found = estimate("opo", outcomes(rewards.tolist(), [0] * 4, lengths=lengths.tolist())).numpy()
    best = (lengths * found**2).sum()
    for shift in (-0.05, 0.05):
        assert (lengths * (found + shift) ** 2).sum() > best
