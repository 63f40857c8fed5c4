"""GSPO: one clipped ratio per answer, with the gradient through it, or token by token."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, outcome, rollouts


def sequence(row: Row, low: float = 3e-4, high: float = 4e-4) -> float:
    ratio, advantage = np.exp(np.mean(row.logp - row.old)), row.advantage.mean()
    return -min(ratio * advantage, np.clip(ratio, 1 - low, 1 + high) * advantage)


@pytest.mark.parametrize("aggregation", ["sequence-mean", "token-mean"])
def test_it_equals_a_plain_computation(aggregation: str) -> None:
    assert_by_hand(objective("gspo", aggregation=aggregation), sequence)


@pytest.mark.parametrize("form", ["sequence", "token"])
def test_its_clip_ratios_count_answers(form: str) -> None:
    batch = rollouts()
    low = high = 0
    for b, length in enumerate(batch.mask_BT.sum(-1).tolist()):
        ratio = float((batch.logp_BT - batch.old_logp_BT)[b, :length].mean().exp())
        advantage = float(batch.advantage_BT[b, 0])
        low += advantage < 0 and ratio < 0.9
        high += advantage > 0 and ratio > 1.05
    assert low > 0 and high > 0
    _, _, metrics = outcome(objective("gspo", clip_low=0.1, clip_high=0.05, form=form), batch)
    if form == "sequence":
        assert metrics["clip_ratio/low_mean"] == pytest.approx(low / 8)
        assert metrics["clip_ratio/high_mean"] == pytest.approx(high / 8)
    assert (metrics["clip_ratio/low_min"], metrics["clip_ratio/high_max"]) == (0.0, 1.0)


def test_the_token_form_is_the_same_where_the_advantage_is() -> None:
    knobs = {"clip_low": 0.1, "clip_high": 0.05}
    wanted_loss, wanted, _ = outcome(objective("gspo", **knobs), rollouts())
    loss, gradients, _ = outcome(objective("gspo", form="token", **knobs), rollouts())
    assert loss == pytest.approx(wanted_loss, rel=1e-6)
    assert torch.allclose(gradients["logp_BT"], wanted["logp_BT"], rtol=1e-6, atol=1e-9)


def test_the_token_form_takes_an_advantage_per_token() -> None:
    batch = rollouts()
    torch.manual_seed(0)
    batch.advantage_BT = torch.where(
        batch.mask_BT, torch.randn(batch.mask_BT.shape).double(), torch.nan
    )

    def tokens(row: Row) -> np.ndarray:
        ratio = np.exp(np.mean(row.fixed_logp - row.old)) * np.exp(row.logp - row.fixed_logp)
        return -np.minimum(ratio * row.advantage, np.clip(ratio, 0.9, 1.05) * row.advantage)

    assert_by_hand(objective("gspo", form="token", clip_low=0.1, clip_high=0.05), tokens, batch)
