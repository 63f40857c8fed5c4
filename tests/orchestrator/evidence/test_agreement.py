"""Agreement: statsmodels' values, gold items, swapped sides."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats import inter_rater
from statsmodels.stats.proportion import proportion_confint

from orchestrator.evidence import (
    Vote,
    agreement,
    cohen_kappa,
    fleiss_kappa,
    judge_weights,
    position_bias,
)

OTHER = {"left": "right", "right": "left"}


def vote(
    judge: str, at: int, outcome: str, *, gold: str | None = None, turned: bool = False
) -> Vote:
    sides = ("b", "a") if turned else ("a", "b")
    shown = OTHER.get(outcome, outcome) if turned else outcome
    return Vote(judge, f"p{at}", *sides, shown, gold=gold)  # type: ignore[arg-type]


def test_cohens_kappa_equals_statsmodels() -> None:
    rng = np.random.default_rng(0)
    one = rng.choice(["x", "y", "z"], 80)
    other = np.where(rng.random(80) < 0.6, one, rng.choice(["x", "y", "z"], 80))
    table = np.array([[((one == i) & (other == j)).sum() for j in "xyz"] for i in "xyz"])
    assert cohen_kappa(one.tolist(), other.tolist()) == pytest.approx(
        inter_rater.cohens_kappa(table).kappa, rel=1e-12
    )


def test_cohens_kappa_of_perfect_and_of_no_agreement() -> None:
    assert cohen_kappa("xyxy", "xyxy") == 1.0
    assert cohen_kappa("xyxy", "yxyx") == -1.0
    assert cohen_kappa("xxxx", "xxxx") is None
    with pytest.raises(ValueError, match="two of each item"):
        cohen_kappa("xy", "x")


def test_fleiss_kappa_equals_statsmodels() -> None:
    counts = np.random.default_rng(1).multinomial(5, [0.5, 0.3, 0.2], 40)
    assert fleiss_kappa(counts) == pytest.approx(inter_rater.fleiss_kappa(counts), rel=1e-12)


def test_fleiss_kappa_of_the_published_example() -> None:
    """The worked example that textbooks print: ten subjects, fourteen judges, five labels, kappa 0.210."""
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_takes_different_numbers_of_judges() -> None:
    assert fleiss_kappa([[2, 0], [0, 3]]) == 1.0
    assert fleiss_kappa([[2, 0], [3, 0]]) is None
    with pytest.raises(ValueError, match="two votes or more"):
        fleiss_kappa([[1, 0], [0, 3]])


def test_judges_agree_about_arms_and_not_about_sides() -> None:
    one = [vote("x", at, "left" if at % 2 else "right") for at in range(10)]
    two = [vote("y", at, "left" if at % 2 else "right", turned=True) for at in range(10)]
    (x, y), overall = agreement([*one, *two])
    assert x.kappas == {"y": 1.0}
    assert x.shared == {"y": 10}
    assert y.kappas == {"x": 1.0}
    assert overall == 1.0
    assert x.left_share == 0.5


def test_a_single_judge_agrees_with_nobody() -> None:
    (x,), overall = agreement([vote("x", 0, "left"), vote("x", 1, "tie")])
    assert x.kappas == {}
    assert overall is None
    assert x.gold_right is None
    assert x.gold_interval is None


def test_gold_items_measure_each_judge() -> None:
    votes = [vote("x", at, "left" if at < 8 else "right", gold="left") for at in range(10)]
    (x,), _ = agreement(votes)
    assert (x.gold, x.gold_right) == (10, 0.8)
    low, high = proportion_confint(8, 10, method="wilson")
    assert x.gold_interval is not None
    assert (x.gold_interval.low, x.gold_interval.high) == pytest.approx((low, high), rel=1e-9)


def test_a_side_that_wins_too_often_shows() -> None:
    votes = [vote("x", at, "left" if at < 70 else "right") for at in range(100)]
    found = position_bias([*votes, vote("x", 500, "tie"), vote("x", 501, "right", gold="right")])
    assert found.decided == 100
    assert found.left_share == 0.7
    assert found.p == pytest.approx(7.85e-5, rel=0.01)
    assert found.interval is not None
    assert found.interval.low > 0.5


def test_a_judge_that_saw_both_ways_round_is_held_to_it() -> None:
    steady = [vote("x", at, "left", turned=turned) for at in range(6) for turned in (False, True)]
    swayed = [
        Vote("x", f"q{at}", *sides, "left") for at in range(2) for sides in (("a", "b"), ("b", "a"))
    ]
    found = position_bias([*steady, *swayed])
    assert found.swapped == 8
    assert found.consistent == pytest.approx(6 / 8)
    nothing = position_bias([vote("x", 0, "tie")])
    assert (nothing.left_share, nothing.interval, nothing.p, nothing.consistent) == (
        None,
        None,
        1.0,
        None,
    )


def test_weights_come_from_gold_items() -> None:
    sides = ["left", "right"]
    good = [vote("good", at, sides[at % 2], gold=sides[at % 2]) for at in range(40)]
    guess = [vote("guess", at, sides[at // 2 % 2], gold=sides[at % 2]) for at in range(40)]
    bad = [vote("bad", at, sides[1 - at % 2], gold=sides[at % 2]) for at in range(40)]
    weights = judge_weights([*good, *guess, *bad, vote("new", 99, "left")])
    assert weights["good"] > 0.8
    assert weights["guess"] < 0.15
    assert weights["bad"] == 0.0
    assert weights["new"] == pytest.approx(0.0, abs=0.01)
    assert judge_weights([vote("x", 0, "left")]) == {"x": 1.0}
    assert judge_weights([vote("x", at, "left", gold="left") for at in range(3)]) == {"x": 1.0}


def test_two_lucky_answers_make_no_expert() -> None:
    sides = ["left", "right"]
    known = [
        vote("known", at, sides[at % 2] if at % 10 < 7 else sides[1 - at % 2], gold=sides[at % 2])
        for at in range(100)
    ]
    lucky = [vote("lucky", at, sides[at % 2], gold=sides[at % 2]) for at in range(2)]
    weights = judge_weights([*known, *lucky])
    assert weights["lucky"] < 0.75
