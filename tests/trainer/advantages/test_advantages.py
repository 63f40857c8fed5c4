"""What every estimator of advantages keeps, whichever it is: a new file in the family is tested at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainer.advantages.support import NAN, outcomes, settings
from trainer.registry import Advantage, Outcomes

SETTINGS = settings()
COMPARING = {name: made for name, made in SETTINGS.items() if "group" in made.needs}


def supplied(given: Outcomes, seed: int = 0) -> Outcomes:
    """With everything that any estimator may need."""
    torch.manual_seed(seed)
    return replace(
        given,
        greedy_N=torch.rand(given.reward_N.shape),
        value_NT=torch.randn(given.mask_NT.shape),
    )


def ragged(rewards: list[float], groups: list[int], **more: Any) -> Outcomes:
    lengths = [1 + (3 * place) % 5 for place in range(len(rewards))]
    return supplied(outcomes(rewards, groups, lengths=lengths, **more))


def per_token(method: Advantage, given: Outcomes) -> torch.Tensor:
    """Advantages as (N, T), 0 where masked out."""
    found = method.advantages(given)
    assert found.shape in (given.reward_N.shape, given.mask_NT.shape)
    assert found.dtype == given.reward_N.dtype
    if found.dim() == 2:
        assert (found[~given.mask_NT] == 0).all(), "masked-out tokens get 0"
        return found
    return torch.where(given.mask_NT, found[:, None], 0.0)


def test_every_estimator_says_what_it_needs_and_computes() -> None:
    for made in SETTINGS.values():
        assert made.formula, f"{made} has no formula for the catalogue"
    assert {name.split("-k=")[0] for name in COMPARING} >= {"opo", "maxrl"}
    assert not {"remax", "gae", "batch-mean", "reinforce-plus-plus"} & {
        made.type  # type: ignore[attr-defined]
        for made in COMPARING.values()
    }


@pytest.mark.parametrize("name", SETTINGS)
def test_permuted_rows_get_permuted_advantages(name: str) -> None:
    """Groups go by id, not by place, and neither ids nor rows have an order."""
    rewards = [0.3, 1.0, 0.0, 0.9, 0.1, 0.4, 0.8, 0.2, 0.7]
    given = ragged(rewards, [4, 4, 4, -1, -1, -1, 90, 90, 90])
    found = per_token(SETTINGS[name], given)
    order = torch.tensor([8, 3, 1, 0, 7, 5, 2, 6, 4])
    renamed = {4: 7, -1: 3, 90: 5}
    shuffled = Outcomes(
        reward_N=given.reward_N[order],
        group_N=torch.tensor([renamed[int(group)] for group in given.group_N[order]]),
        mask_NT=given.mask_NT[order],
        greedy_N=given.greedy_N[order],  # type: ignore[index]
        value_NT=given.value_NT[order],  # type: ignore[index]
    )
    assert found.any(), "the example must have a signal"
    torch.testing.assert_close(per_token(SETTINGS[name], shuffled), found[order])


@pytest.mark.parametrize("name", COMPARING)
@pytest.mark.parametrize("reward", [0.1, -0.7, 1e4, 1 / 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lone_answer_and_an_all_equal_group_get_exactly_zero(
    name: str, reward: float, dtype: torch.dtype
) -> None:
    """Beside a group with a signal, so that batch statistics are not 0, and where sums round (float64)."""
    given = ragged([reward] * 8 + [0.9, 0.1, 0.37], [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2], dtype=dtype)
    found = per_token(COMPARING[name], given)
    assert (found[:8] == 0).all()
    assert found[8:].any()
    assert found.isfinite().all()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_of_one_stays_finite(name: str) -> None:
    found = per_token(SETTINGS[name], ragged([0.7], [3]))
    assert found.isfinite().all()
    if name in COMPARING:
        assert (found == 0).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_an_unscorable_answer_gets_zero_and_is_as_good_as_absent(name: str) -> None:
    """It enters no mean, no deviation and no extremum, in its group or in the batch."""
    rewards = [1.0, NAN, 0.2, 0.3, 0.6, NAN, 0.0, 0.1, NAN]
    groups = [0, 0, 0, 0, 1, 1, 1, 1, 2]
    given = ragged(rewards, groups)
    found = per_token(SETTINGS[name], given)
    present = given.reward_N.isfinite()
    without = Outcomes(
        **{
            key: None if value is None else value[present]
            for key, value in vars(given).items()
            if key != "part_weight_K"
        }
    )
    assert (found[~present] == 0).all()
    assert found.any()
    torch.testing.assert_close(found[present], per_token(SETTINGS[name], without))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_group_with_one_scorable_answer_stays_finite(name: str) -> None:
    found = per_token(SETTINGS[name], ragged([NAN, 0.4, NAN, 1.0, 0.0], [0, 0, 0, 1, 1]))
    assert found.isfinite().all()
    if name in COMPARING:
        assert (found[:3] == 0).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_a_batch_of_unscorable_answers_gets_zero(name: str) -> None:
    assert (per_token(SETTINGS[name], ragged([NAN] * 4, [0, 0, 1, 1])) == 0).all()


@pytest.mark.parametrize("name", SETTINGS)
def test_what_stands_behind_the_mask_never_leaks(name: str) -> None:
    given = ragged([1.0, 0.2, 0.6, 0.0], [0, 0, 1, 1])
    penalty = 0.1 * torch.randn(given.mask_NT.shape)
    clean = replace(given, penalty_NT=penalty)
    value = given.value_NT.masked_fill(~given.mask_NT, NAN)  # type: ignore[union-attr]
    dirty = replace(given, penalty_NT=penalty.masked_fill(~given.mask_NT, NAN), value_NT=value)
    assert torch.equal(per_token(SETTINGS[name], dirty), per_token(SETTINGS[name], clean))


@pytest.mark.parametrize("name", SETTINGS)
def test_a_penalty_in_the_reward_moves_the_advantage(name: str) -> None:
    """A knob that has no effect would be a defect, whatever the estimator scales."""
    given = ragged([1.0, 0.2, 0.6, 0.0, 0.3, 0.9], [0, 0, 0, 1, 1, 1])
    punished = replace(given, penalty_NT=torch.zeros(given.mask_NT.shape))
    punished.penalty_NT[0, 0] = 5.0  # type: ignore[index]
    before, after = per_token(SETTINGS[name], given), per_token(SETTINGS[name], punished)
    assert after[0, 0] < before[0, 0]


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_result_has_the_reward_s_dtype(name: str, dtype: torch.dtype) -> None:
    per_token(SETTINGS[name], ragged([1.0, 0.0, 0.5, 0.25], [0, 0, 1, 1], dtype=dtype))


@pytest.mark.parametrize("name", COMPARING)
def test_a_small_difference_on_a_large_reward_is_not_lost_to_rounding(name: str) -> None:
    """Sums are taken in double precision: float32 would lose 1 beside 1e6 squared."""
    base, more = 1_000_000.0, [0.0, 1.0, 1.0, 0.0, 3.0]
    far = per_token(COMPARING[name], outcomes([base + x for x in more], [0] * 5))
    if name == "maxrl":
        near = per_token(COMPARING[name], outcomes(more, [0] * 5)) / (base + 1)
    else:
        near = per_token(COMPARING[name], outcomes(more, [0] * 5))
    np.testing.assert_allclose(far.numpy(), near.numpy(), rtol=1e-5, atol=1e-9)
