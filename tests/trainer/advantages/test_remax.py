"""ReMax: the greedy answer's reward comes off, and the policy gradient stays unbiased."""

from __future__ import annotations

import numpy as np
import torch

from tests.trainer.advantages.support import NAN, Lottery, estimate, method, outcomes


def test_the_baseline_is_the_greedy_answer_s_reward() -> None:
    given = outcomes([1.0, 0.0, 0.5], [0, 0, 1], greedy_N=torch.tensor([0.4, 0.4, 0.9]))
    np.testing.assert_allclose(estimate("remax", given).numpy(), [0.6, -0.4, -0.4], rtol=1e-6)


def test_an_unscorable_greedy_answer_silences_its_prompt() -> None:
    given = outcomes([1.0, 0.5], [0, 1], greedy_N=torch.tensor([NAN, 0.0]))
    assert estimate("remax", given).tolist() == [0.0, 0.5]


def test_all_equal_answers_are_judged_by_the_greedy_one() -> None:
    given = outcomes([1.0, 1.0], [0, 0], greedy_N=torch.tensor([0.0, 0.0]))
    assert estimate("remax", given).tolist() == [1.0, 1.0]


def test_the_penalty_comes_off_the_sampled_answer() -> None:
    given = outcomes([1.0], [0], greedy_N=torch.tensor([0.25]), penalty_NT=torch.tensor([[0.5]]))
    assert estimate("remax", given).tolist() == [0.25]


def test_it_leaves_the_policy_gradient_unbiased_even_for_one_answer() -> None:
    lottery = Lottery([1.0, -0.4, 0.3], [0.2, -0.5, 1.1])
    greedy = lottery.reward_V[lottery.logit_V.argmax()]
    wanted = lottery.gradient((lottery.logp_V.exp() * lottery.reward_V).sum())
    for size in (1, 2):
        greedy_N = greedy.expand(size * len(lottery.groups(size)))
        found = lottery.policy_gradient(method("remax"), size, greedy_N=greedy_N)
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)
