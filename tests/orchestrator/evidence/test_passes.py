"""pass@k equals counting all draws by hand; its intervals hold the truth."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from orchestrator.evidence import Arm, Arms, pass_at_k, pass_curve, pass_difference
from tests.orchestrator.evidence.simulated import passes_cover

NAN = float("nan")


def by_counting(solved: int, samples: int, k: int) -> float:
    marks = [1] * solved + [0] * (samples - solved)
    drawn = list(combinations(marks, k))
    return sum(any(draw) for draw in drawn) / len(drawn)


@pytest.mark.parametrize("samples", [1, 5, 8])
def test_it_equals_counting_every_draw(samples: int) -> None:
    for k in range(1, samples + 1):
        for solved in range(samples + 1):
            assert pass_at_k(solved, samples, k) == pytest.approx(
                by_counting(solved, samples, k), abs=1e-12
            )


def test_it_has_no_bias_where_the_naive_power_has() -> None:
    """Chen et al. 2021, section 2.1: 1 - (1 - c/n)^k lies below the truth."""
    rng = np.random.default_rng(0)
    solved = rng.binomial(10, 0.2, 200_000)
    truth = 1 - 0.8**5
    assert pass_at_k(solved, 10, 5).mean() == pytest.approx(truth, abs=0.003)
    assert (1 - (1 - solved / 10) ** 5).mean() < truth - 0.03


def test_thousands_of_samples_do_not_overflow() -> None:
    assert pass_at_k(1, 10_000, 5_000) == pytest.approx(0.5)
    assert pass_at_k([0, 10_000], 10_000, 9_999).tolist() == [0.0, 1.0]


def test_a_curve_rises_over_k_on_the_same_prompts() -> None:
    rng = np.random.default_rng(1)
    scores = rng.binomial(1, rng.beta(0.5, 1.5, (120, 1)), (120, 16)).astype(float)
    curve = pass_curve(Arm("a", scores), resamples=500)
    assert [point.k for point in curve.points] == [1, 2, 4, 8, 16]
    estimates = [point.estimate for point in curve.points]
    assert estimates == sorted(estimates)
    assert estimates[0] == pytest.approx(scores.mean())
    assert estimates[-1] == pytest.approx((scores.max(axis=1) == 1).mean())
    assert all(point.interval.low < point.estimate < point.interval.high for point in curve.points)
    assert (curve.prompts, curve.left_out, curve.seeds) == (120, 0, 1)


def test_failed_items_shorten_a_prompt_and_never_fail_it() -> None:
    scores = np.zeros((100, 8))
    scores[:, 0] = 1
    scores[:3, 4:] = NAN
    curve = pass_curve(Arm("a", scores), resamples=200)
    assert curve.points[-1].k == 8
    assert (curve.prompts, curve.left_out) == (97, 3)
    scores[:30, 4:] = NAN
    curve = pass_curve(Arm("a", scores), resamples=200)
    assert curve.points[-1].k == 4
    assert curve.left_out == 0
    short = pass_curve(Arm("a", scores[:30]), [1], resamples=200)
    assert short.points[0].estimate == pytest.approx(1 / 4)


def test_seeds_are_averaged_by_prompt() -> None:
    scores = np.zeros((2, 10, 4))
    scores[0] = 1
    curve = pass_curve(Arm("a", scores), [1, 4], resamples=200)
    assert [point.estimate for point in curve.points] == [0.5, 0.5]
    assert curve.seeds == 2


def test_a_difference_in_pass_at_k_is_paired() -> None:
    rng = np.random.default_rng(2)
    hard_P1 = rng.beta(0.5, 1.5, (150, 1))
    one = rng.binomial(1, (hard_P1 + 0.1).clip(0, 1), (150, 8)).astype(float)
    other = rng.binomial(1, hard_P1, (150, 8)).astype(float)
    other[0, 3:] = NAN
    found = pass_difference(
        Arms(tuple(map(str, range(150))), (Arm("a", one), Arm("b", other))).pair("a", "b"),
        4,
        resamples=500,
    )
    assert found.prompts == 149
    expected = (
        pass_at_k(one[1:].sum(axis=1), 8, 4).mean()
        - pass_at_k(np.nansum(other[1:], axis=1), 8, 4).mean()
    )
    assert found.difference == pytest.approx(expected)
    assert found.interval.low < expected < found.interval.high


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: pass_at_k(1, 4, 5), "the fewest are 4"),
        (lambda: pass_at_k(1, 4, 0), "k: 0"),
        (lambda: pass_at_k(5, 4, 1), "solved"),
        (lambda: pass_curve(Arm("a", np.array([0.5, 1.0]))), "needs 0 or 1"),
        (
            lambda: pass_curve(Arm("a", np.array([[0.0, 1.0]])), [3]),
            r"ks: \[3\]; give numbers from 1 to 2",
        ),
        (lambda: pass_curve(Arm("a", np.array([[0.0, 1.0]])), []), r"ks: \[\]"),
        (
            lambda: pass_difference(
                Arms(("p", "q"), (Arm("a", np.eye(2)), Arm("b", np.eye(2)))).pair("a", "b"), 3
            ),
            "give a smaller k",
        ),
    ],
)
def test_bad_input_is_told_in_words(call: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()  # type: ignore[operator]


@pytest.mark.parametrize("k", [1, 4, 8])
def test_intervals_hold_the_truth(k: int) -> None:
    assert 0.93 <= passes_cover(k, 100, 2_000, seed=k) <= 0.97
