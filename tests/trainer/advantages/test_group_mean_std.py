"""Group advantages: exact values, and silence where there is no signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.registry import Outcomes, family


def advantages(rewards: list[float], groups: list[int], **knobs: object) -> list[float]:
    method = family("advantages")["group-mean-std"](type="group-mean-std", **knobs)
    mask = torch.ones(len(rewards), 1, dtype=torch.bool)
    outcomes = Outcomes(torch.tensor(rewards), torch.tensor(groups), mask)
    return method.advantages(outcomes).tolist()


def test_it_equals_three_lines_of_numpy() -> None:
    rewards = np.array([[1.0, 0.0, 0.5], [0.2, 0.2, 0.9]])
    centred = rewards - rewards.mean(1, keepdims=True)
    wanted = centred / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)
    found = advantages(rewards.ravel().tolist(), [0, 0, 0, 1, 1, 1])
    assert found == pytest.approx(wanted.ravel().tolist(), rel=1e-6)


def test_it_goes_by_group_id_and_not_by_place() -> None:
    ordered = advantages([1.0, 0.0, 0.3, 0.9], [7, 7, 3, 3])
    mixed = advantages([1.0, 0.3, 0.0, 0.9], [7, 3, 7, 3])
    assert mixed == pytest.approx([ordered[0], ordered[2], ordered[1], ordered[3]])


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_a_lone_answer_and_an_all_equal_group_get_zero(scale: str) -> None:
    found = advantages([0.7, 0.1, 0.1, 0.1, 1.0, 0.0], [0, 1, 1, 1, 2, 2], scale=scale)
    assert found[:4] == [0.0] * 4
    assert found[4] > 0 > found[5]


def test_an_unscorable_answer_gets_zero_and_does_not_move_the_baseline() -> None:
    with_none = advantages([1.0, 0.0, float("nan")], [0, 0, 0])
    without = advantages([1.0, 0.0], [0, 0])
    assert with_none == pytest.approx([*without, 0.0])


def test_a_group_of_unscorable_answers_stays_finite() -> None:
    assert advantages([float("nan")] * 2, [0, 0]) == [0.0, 0.0]
