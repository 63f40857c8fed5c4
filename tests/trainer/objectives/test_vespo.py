"""VESPO: the gamma weight of an answer's ratio, and its knobs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.trainer.objectives.rollouts import Row, assert_by_hand, objective


def weighed(row: Row, good: tuple[float, float], bad: tuple[float, float]) -> np.ndarray:
    s = np.exp(np.sum(row.fixed_logp - row.old))
    k, fade = good if np.mean(row.advantage) >= 0 else bad
    return -(s**k) * np.exp(fade * (1 - s)) * row.advantage * row.logp


@pytest.mark.parametrize(("good", "bad"), [((2, 3), (3, 2)), ((1, 0.5), (0.25, 4))])
def test_it_equals_a_plain_computation(good: tuple[float, float], bad: tuple[float, float]) -> None:
    knobs = dict(zip(("k_pos", "fade_pos", "k_neg", "fade_neg"), (*good, *bad), strict=True))
    assert_by_hand(objective("vespo", **knobs), lambda row: weighed(row, good, bad))


def test_an_answer_of_the_same_policy_has_weight_1() -> None:
    metrics = assert_by_hand(
        objective("vespo", k_pos=0, fade_pos=0, k_neg=0, fade_neg=0),
        lambda row: -row.advantage * row.logp,
    )
    assert metrics["vespo/phi_seq_mean"] == pytest.approx(1.0)
