"""GRPO: equal to a plain computation in value and gradient, clip ratios counted one by one, dual clip."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective, rollouts

AGGREGATIONS = ("token-mean", "sequence-mean", "constant", "prompt-mean")


def clipped(row: Row, cap: float = np.inf) -> np.ndarray:
    ratio, advantage = np.exp(row.logp - row.old), row.advantage
    free = ratio * advantage
    # Dual clip as published: for A < 0 the surrogate is at least cap A.
    surrogate = np.minimum(free, np.clip(ratio, 0.8, 1.28) * advantage)
    return -np.where(advantage < 0, np.maximum(surrogate, cap * advantage), surrogate)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_it_equals_a_plain_computation(aggregation: str) -> None:
    assert_by_hand(objective("grpo", aggregation=aggregation), clipped)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_kl_term_is_normalised_like_the_policy_term(aggregation: str) -> None:
    def with_kl(row: Row) -> np.ndarray:
        gap = row.logp - row.ref
        k3 = np.exp(-gap) + gap - 1
        return clipped(row) + 0.07 * k3 * np.exp(row.logp - row.old)

    assert_by_hand(objective("grpo", aggregation=aggregation, beta=0.07), with_kl)


def test_dual_clip_bounds_the_ratio_of_bad_tokens() -> None:
    batch = rollouts(spread=1.0)
    ratio = (batch.logp_BT - batch.old_logp_BT).exp()
    assert bool(((ratio > 1.5) & (batch.advantage_BT < 0)).any())
    assert_by_hand(objective("grpo", dual_clip=1.5), lambda row: clipped(row, cap=1.5), batch)


def test_dual_clip_below_the_upper_bound_is_refused() -> None:
    with pytest.raises(ValidationError, match="must exceed 1 \\+ clip_high"):
        objective("grpo", dual_clip=1.1)


def test_clip_ratios_are_shares_of_all_tokens_of_the_step() -> None:
    """Known bug 45: (sum, n), the sign of the advantage counts, extrema are extrema."""
    batch = rollouts()
    low, high, low_share, high_share = 0, 0, [], []
    for b, length in enumerate(batch.mask_BT.sum(-1).tolist()):
        ratio = np.exp((batch.logp_BT - batch.old_logp_BT)[b, :length].numpy())
        advantage = float(batch.advantage_BT[b, 0])
        lows = int(sum(ratio < 0.8)) if advantage < 0 else 0
        highs = int(sum(ratio > 1.28)) if advantage > 0 else 0
        low, high = low + lows, high + highs
        low_share.append(lows / length)
        high_share.append(highs / length)
    assert low > 0 and high > 0
    metrics = assert_by_hand(objective("grpo"), clipped)
    assert metrics["clip_ratio/low_mean"] == pytest.approx(low / batch.tokens)
    assert metrics["clip_ratio/high_mean"] == pytest.approx(high / batch.tokens)
    assert metrics["clip_ratio/region_mean"] == pytest.approx((low + high) / batch.tokens)
    assert metrics["clip_ratio/low_min"] == pytest.approx(min(low_share))
    assert metrics["clip_ratio/high_max"] == pytest.approx(max(high_share))


def test_on_policy_nothing_is_clipped() -> None:
    """Known bug 14: ratio 1 at the first update, clip ratios exactly 0."""
    batch = rollouts(spread=0.0)
    metrics = assert_by_hand(objective("grpo"), clipped, batch)
    assert {value for key, value in metrics.items() if key.startswith("clip_ratio/")} == {0.0}
