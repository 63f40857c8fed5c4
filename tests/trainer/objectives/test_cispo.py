"""CISPO: a clipped weight without gradient, and what the knob's value means."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, rollouts


def weighed(row: Row, low: float, high: float) -> np.ndarray:
    weight = np.clip(np.exp(row.fixed_logp - row.old), low, high)
    return -weight * row.advantage * row.logp


@pytest.mark.parametrize(("low", "high"), [(0.0, 5.0), (0.0, 1.2), (0.8, 1.2)])
def test_it_equals_a_plain_computation(low: float, high: float) -> None:
    method = objective("cispo", ratio_min=low, ratio_max=high)
    assert_by_hand(method, lambda row: weighed(row, low, high))


def test_its_clip_ratio_counts_good_tokens_over_the_ceiling() -> None:
    batch = rollouts()
    ratio = (batch.logp_BT - batch.old_logp_BT).exp()
    over = batch.mask_BT & (ratio > 1.2) & (batch.advantage_BT > 0)
    metrics = assert_by_hand(objective("cispo", ratio_max=1.2), lambda row: weighed(row, 0.0, 1.2))
    assert metrics["cispo_clip_ratio"] == pytest.approx(float(over.sum()) / batch.tokens)
    assert metrics["cispo_clip_ratio"] > 0


def test_it_has_no_dual_clip() -> None:
    with pytest.raises(ValidationError, match="dual_clip"):
        objective("cispo", dual_clip=3.0)
