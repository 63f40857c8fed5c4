"""GAE: the recursion against the sum it stands for, its two ends, and the critic's targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.advantages.support import NAN, estimate, method, outcomes

LENGTHS = [3, 1, 4, 2]
REWARDS = [1.0, 0.0, 0.5, 0.2]
MASK = np.arange(4)[None, :] < np.array(LENGTHS)[:, None]
VALUE = np.random.default_rng(1).standard_normal((4, 4))
PENALTY = 0.1 * np.random.default_rng(2).standard_normal((4, 4))


def given(**more: object) -> object:
    return outcomes(
        REWARDS,
        [0, 0, 1, 1],
        lengths=LENGTHS,
        value_NT=torch.tensor(VALUE),
        penalty_NT=torch.tensor(PENALTY),
        **more,
    )


def by_definition(gamma: float, lam: float) -> np.ndarray:
    """Eq. 16 as written: the sum of discounted temporal differences."""
    wanted = np.zeros((4, 4))
    for row, length in enumerate(LENGTHS):
        earned = -PENALTY[row, :length].copy()
        earned[-1] += REWARDS[row]
        ahead = np.append(VALUE[row, 1:length], 0.0)
        delta = earned + gamma * ahead - VALUE[row, :length]
        for t in range(length):
            wanted[row, t] = sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, length))
    return wanted


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.8), (1.0, 1.0), (0.97, 0.0)])
def test_it_is_the_discounted_sum_of_temporal_differences(gamma: float, lam: float) -> None:
    found = estimate("gae", given(), gamma=gamma, lam=lam, whiten=False)
    np.testing.assert_allclose(found.numpy(), by_definition(gamma, lam), rtol=1e-5, atol=1e-6)


def test_whitening_is_over_all_answer_tokens() -> None:
    plain = by_definition(1.0, 0.95)
    cells = plain[MASK]
    wanted = np.where(MASK, (plain - cells.mean()) / (cells.std(ddof=1) + 1e-4), 0.0)
    np.testing.assert_allclose(estimate("gae", given()).numpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whiten", [True, False])
def test_the_critic_s_targets_are_not_whitened(whiten: bool) -> None:
    found = method("gae", whiten=whiten).returns(given())
    assert found is not None
    wanted = np.where(MASK, by_definition(1.0, 0.95) + VALUE, 0.0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_with_lam_1_the_targets_are_what_was_earned() -> None:
    found = method("gae", lam=1.0).returns(given())
    assert found is not None
    earned = np.where(MASK, -PENALTY, 0.0)
    earned[np.arange(4), np.array(LENGTHS) - 1] += REWARDS
    wanted = np.where(MASK, earned[:, ::-1].cumsum(1)[:, ::-1], 0.0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-6)


def test_a_critic_that_knows_the_reward_leaves_no_advantage() -> None:
    value = torch.tensor(REWARDS)[:, None].expand(4, 4)
    told = outcomes(REWARDS, [0, 0, 1, 1], lengths=LENGTHS, value_NT=value)
    assert estimate("gae", told, whiten=False).abs().max() < 1e-7


def test_a_masked_out_token_in_the_middle_takes_no_time() -> None:
    close = outcomes(REWARDS, [0, 0, 1, 1], lengths=LENGTHS, value_NT=torch.tensor(VALUE))
    places = [0, 2, 3, 5]
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:, places] = close.mask_NT
    value = torch.full((4, 6), NAN)
    value[:, places] = torch.tensor(VALUE).float()
    spread = type(close)(close.reward_N, close.group_N, mask, value_NT=value)
    found = estimate("gae", spread, gamma=0.9)
    torch.testing.assert_close(found[:, places], estimate("gae", close, gamma=0.9))


def test_the_critic_learns_nothing_from_an_unscorable_answer() -> None:
    value = torch.tensor([[0.3, -0.2], [0.1, 0.5]])
    told = outcomes([NAN, 1.0], [0, 1], lengths=[2, 2], value_NT=value)
    targets = method("gae").returns(told)
    assert targets is not None
    torch.testing.assert_close(targets[0], value[0])
    assert targets.isfinite().all()
