"""GDPO: each reward is normalised in its group, then they are summed, then the batch is normalised."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.trainer.advantages.support import NAN, estimate, outcomes

EPS = 1e-4


def scored(parts: np.ndarray, weights: list[float], groups: list[int], **more: Any) -> Any:
    total = np.nansum(parts * np.array(weights), axis=1)
    total[np.isnan(parts).all(1)] = NAN
    return outcomes(
        total.tolist(),
        groups,
        parts_NK=torch.tensor(parts, dtype=torch.float32),
        part_weight_K=torch.tensor(weights),
        **more,
    )


def z(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / (values.std(ddof=1) + EPS)


def test_it_equals_a_few_lines_of_numpy() -> None:
    parts = np.array([[1.0, 30.0], [0.0, 10.0], [0.0, 80.0], [1.0, 5.0], [1.0, 7.0], [0.0, 9.0]])
    groups, weights = np.array([0, 0, 0, 1, 1, 1]), [1.0, 0.5]
    summed = np.zeros(6)
    for k, weight in enumerate(weights):
        for group in (0, 1):
            summed[groups == group] += weight * z(parts[groups == group, k])
    found = estimate("gdpo", scored(parts, weights, groups.tolist()))
    np.testing.assert_allclose(found.numpy(), z(summed), rtol=1e-5)


def test_it_tells_apart_what_a_plain_sum_confuses() -> None:
    """The paper's example: (0, 1) and (0, 2) of two rewards collapse when summed first."""
    groups = [0, 0, 1, 1]
    parts = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    summed_first = estimate("group-mean-std", scored(parts, [1.0, 1.0], groups))
    apart = estimate("gdpo", scored(parts, [1.0, 1.0], groups))
    assert abs(float(summed_first[3] / summed_first[1]) - 1) < 1e-3
    np.testing.assert_allclose(float(apart[3] / apart[1]), 2.0, rtol=1e-3)


def test_a_part_that_could_not_be_scored_is_left_out_of_its_group() -> None:
    parts = np.array([[1.0, NAN], [0.0, 0.2], [0.0, 0.8]])
    summed = z(parts[:, 0])
    summed[1:] += z(parts[1:, 1])
    found = estimate("gdpo", scored(parts, [1.0, 1.0], [0, 0, 0]))
    np.testing.assert_allclose(found.numpy(), z(summed), rtol=1e-5)


def test_a_penalty_is_subtracted_centred_and_keeps_its_coefficient() -> None:
    parts = np.array([[1.0], [0.0], [0.0]])
    penalty = np.array([0.3, 0.0, 0.6])
    given = scored(parts, [1.0], [0, 0, 0], penalty_NT=torch.tensor(penalty)[:, None])
    wanted = z(z(parts[:, 0]) - (penalty - penalty.mean()))
    np.testing.assert_allclose(estimate("gdpo", given).numpy(), wanted, rtol=1e-5)


def test_without_parts_the_total_is_the_one_part() -> None:
    rewards = np.array([1.0, 0.0, 0.2])
    np.testing.assert_allclose(
        estimate("gdpo", outcomes(rewards.tolist(), [0] * 3)).numpy(), z(z(rewards)), rtol=1e-5
    )


def test_the_parts_of_an_unscorable_answer_do_not_move_the_others() -> None:
    parts = np.array([[1.0, 0.1], [0.0, 0.7], [0.4, 0.9], [9.0, -9.0]])
    given = scored(parts, [1.0, 1.0], [0, 0, 0, 0])
    given.reward_N[3] = NAN
    found = estimate("gdpo", given)
    wanted = estimate("gdpo", scored(parts[:3], [1.0, 1.0], [0, 0, 0]))
    np.testing.assert_allclose(found.numpy(), [*wanted.tolist(), 0.0], rtol=1e-6)
