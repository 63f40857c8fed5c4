"""REINFORCE++ and its form with a baseline: token returns and whitening, number by number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.advantages.support import NAN, estimate, outcomes

EPS = 1e-4
LENGTHS = [3, 1, 4, 2]
REWARDS = [1.0, 0.0, 0.5, 0.2]
MASK = np.arange(4)[None, :] < np.array(LENGTHS)[:, None]


def whitened(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    cells = values[mask]
    return np.where(mask, (values - cells.mean()) / (cells.std(ddof=1) + EPS), 0.0)


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_each_token_gets_its_discounted_return_whitened(gamma: float) -> None:
    penalty = 0.1 * np.random.default_rng(0).standard_normal((4, 4))
    returns = np.zeros((4, 4))
    for row, (length, reward) in enumerate(zip(LENGTHS, REWARDS, strict=True)):
        for t in range(length):
            ahead = np.arange(t, length)
            returns[row, t] = gamma ** (length - 1 - t) * reward
            returns[row, t] -= (gamma ** (ahead - t) * penalty[row, ahead]).sum()
    given = outcomes(REWARDS, [0, 0, 1, 1], lengths=LENGTHS, penalty_NT=torch.tensor(penalty))
    found = estimate("reinforce-plus-plus", given, gamma=gamma)
    np.testing.assert_allclose(found.numpy(), whitened(returns, MASK), rtol=1e-5, atol=1e-7)


def test_a_masked_out_token_in_the_middle_takes_no_time() -> None:
    """Text that somebody else wrote into the answer neither earns nor discounts."""
    given = outcomes(REWARDS, [0, 0, 1, 1], lengths=LENGTHS)
    wider = torch.zeros(4, 6, dtype=torch.bool)
    places = [0, 2, 3, 5]
    wider[:, places] = given.mask_NT
    spread = type(given)(given.reward_N, given.group_N, wider)
    found = estimate("reinforce-plus-plus", spread, gamma=0.9)
    wanted = estimate("reinforce-plus-plus", given, gamma=0.9)
    torch.testing.assert_close(found[:, places], wanted)
    assert (found[:, [1, 4]] == 0).all()


def test_a_batch_of_equal_rewards_is_silent() -> None:
    given = outcomes([0.1] * 3, [0, 1, 2], lengths=[2, 5, 3], dtype=torch.float64)
    assert (estimate("reinforce-plus-plus", given) == 0).all()


def test_it_needs_no_group() -> None:
    found = estimate("reinforce-plus-plus", outcomes([1.0, 0.0], [0, 1]))
    assert found[0, 0] > 0 > found[1, 0]


def test_the_baseline_form_centres_in_the_group_and_whitens_over_tokens() -> None:
    rewards = np.array([1.0, 0.0, 0.5, 0.2])
    centred = rewards - np.array([0.5, 0.5, 0.35, 0.35])
    wanted = whitened(np.repeat(centred[:, None], 4, axis=1), MASK)
    given = outcomes(rewards.tolist(), [0, 0, 1, 1], lengths=LENGTHS)
    found = estimate("reinforce-plus-plus-baseline", given)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-7)


def test_all_equal_groups_count_in_the_spread_and_lone_answers_do_not() -> None:
    rewards, groups, lengths = (
        [1.0, 0.0, 0.3, 0.3, 0.7, NAN],
        [0, 0, 1, 1, 2, 2],
        [3, 1, 4, 2, 4, 4],
    )
    centred = np.array([0.5] * 3 + [-0.5] + [0.0] * 6)
    wanted = (0.5 - centred.mean()) / (centred.std(ddof=1) + EPS)
    given = outcomes(rewards, groups, lengths=lengths)
    found = estimate("reinforce-plus-plus-baseline", given)
    np.testing.assert_allclose(found[0, :3].numpy(), wanted, rtol=1e-5)
    assert (found[2:] == 0).all()
