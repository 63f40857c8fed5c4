"""Pass@k: closed forms against every set of k, published forms, and an unbiased gradient of pass@k."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.trainer.advantages.support import Lottery, estimate, method, outcomes

REWARDS = [0.4, 1.0, 0.0, 0.7, 0.7, 0.1]


def by_all_sets(rewards: list[float], k: int, baseline: str) -> np.ndarray:
    sets = list(combinations(range(len(rewards)), k))
    best = np.array([max(rewards[i] for i in chosen) for chosen in sets])
    wanted = []
    for i in range(len(rewards)):
        mine = [place for place, chosen in enumerate(sets) if i in chosen]
        if baseline == "mean":
            wanted.append((best[mine].mean() - best.mean()) / (best.std() + 1e-4))
        else:
            rest = [max(rewards[j] for j in sets[place] if j != i) for place in mine]
            wanted.append((best[mine] - rest).mean())
    return np.array(wanted)


@pytest.mark.parametrize("k", [2, 3, 5, 6])
def test_leave_one_out_equals_the_average_over_all_sets(k: int) -> None:
    found = estimate("pass-at-k", outcomes(REWARDS, [0] * 6), k=k)
    np.testing.assert_allclose(
        found.numpy(), by_all_sets(REWARDS, k, "leave-one-out"), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_less_the_mean_equals_the_average_over_all_sets(k: int) -> None:
    found = estimate("pass-at-k", outcomes(REWARDS, [0] * 6), k=k, baseline="mean")
    np.testing.assert_allclose(found.numpy(), by_all_sets(REWARDS, k, "mean"), rtol=1e-5, atol=1e-7)


def test_of_the_whole_group_only_the_best_is_paid_what_it_is_ahead() -> None:
    found = estimate("pass-at-k", outcomes([0.2, 0.9, 0.5, 1.0, 0.0], [0, 0, 0, 1, 1]))
    np.testing.assert_allclose(found.numpy(), [0, 0.4, 0, 1.0, 0], rtol=1e-6)


def test_two_equal_best_answers_get_nothing() -> None:
    assert estimate("pass-at-k", outcomes([1.0, 1.0, 0.0], [0] * 3)).tolist() == [0.0] * 3


@pytest.mark.parametrize("wrong", [2, 5, 6, 7])
def test_for_right_and_wrong_it_is_the_published_closed_form(wrong: int) -> None:
    """arXiv 2508.10751: R = 1 - C(wrong, k) / C(n, k), sigma = sqrt(R (1 - R))."""
    n, k = 8, 3
    rate = 1 - comb(wrong, k) / comb(n, k)
    sigma = np.sqrt(rate * (1 - rate))
    right = (1 - rate) / (sigma + 1e-4)
    bad = (1 - rate - comb(wrong - 1, k - 1) / comb(n - 1, k - 1)) / (sigma + 1e-4)
    rewards = [0.0] * wrong + [1.0] * (n - wrong)
    found = estimate("pass-at-k", outcomes(rewards, [0] * n), k=k, baseline="mean")
    np.testing.assert_allclose(
        found.numpy(), [bad] * wrong + [right] * (n - wrong), rtol=1e-5, atol=1e-7
    )
    # With fewer wrong answers than k every set holds a right one.
    assert found.any() == (wrong >= k)


@pytest.mark.parametrize(("k", "size"), [(2, 2), (2, 4), (3, 3), (3, 4)])
def test_k_times_its_gradient_is_that_of_the_expected_best_of_k(k: int, size: int) -> None:
    lottery = Lottery([1.0, -0.4, 0.3], [0.2, -0.5, 1.1])
    found = k * lottery.policy_gradient(method("pass-at-k", k=k), size)
    wanted = lottery.gradient(lottery.expected_best(k))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("best", "n", "k"), [(1.0, 12, 2), (1 / 3, 9, 3), (0.1, 10, 6)])
def test_when_every_set_has_the_same_best_all_get_exactly_zero(best: float, n: int, k: int) -> None:
    """Fewer than k answers are below the best; the shares of the sets add up to 1 but for rounding."""
    rewards = [0.05] * (k - 1) + [best] * (n - k + 1)
    given = outcomes(rewards, [0] * n, dtype=torch.float64)
    assert estimate("pass-at-k", given, k=k, baseline="mean").tolist() == [0.0] * n


def test_a_large_group_does_not_overflow() -> None:
    torch.manual_seed(1)
    rewards = torch.rand(600).tolist()
    for baseline in ("leave-one-out", "mean"):
        given = outcomes(rewards, [0] * 600)
        assert estimate("pass-at-k", given, k=300, baseline=baseline).isfinite().all()


@pytest.mark.parametrize("knobs", [{"k": 1}, {"k": 0, "baseline": "mean"}])
def test_a_setting_without_a_comparison_is_refused(knobs: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="k must be"):
        method("pass-at-k", **knobs)
