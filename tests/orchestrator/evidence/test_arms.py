"""Arms on the same prompts: what is left out of a pair, and why; a failed item is never a 0."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.evidence import Arm, Arms
from orchestrator.evidence.arms import NO_REASON

NAN = float("nan")


def arms(*scores: object, prompts: int = 3) -> Arms:
    return Arms(
        tuple(f"p{n}" for n in range(prompts)),
        tuple(Arm("ab"[at], np.array(given)) for at, given in enumerate(scores)),
    )


def test_scores_of_any_accepted_shape_become_seeds_prompts_samples() -> None:
    assert Arm("a", np.zeros(4)).scores.shape == (1, 4, 1)
    assert Arm("a", np.zeros((4, 2))).scores.shape == (1, 4, 2)
    assert Arm("a", np.zeros((3, 4, 2))).scores.shape == (3, 4, 2)
    assert Arm("a", np.zeros((3, 4, 2))).seeds == 3


def test_scores_are_a_copy_that_nobody_can_change() -> None:
    given = np.zeros((2, 2))
    arm = Arm("a", given)
    given[0, 0] = 1
    assert arm.scores.sum() == 0
    with pytest.raises(ValueError, match="read-only"):
        arm.scores[0, 0, 0] = 1


def test_a_failed_item_is_no_zero() -> None:
    pair = arms([[1, NAN], [0, 0], [1, 1]], [[0, 0], [0, 0], [0, 0]]).pair("a", "b")
    assert pair.difference_P.tolist() == [1.0, 0.0, 1.0]


def test_a_prompt_without_any_score_on_one_side_leaves_the_pair_and_is_counted_with_its_reason() -> (
    None
):
    whole = Arms(
        ("p0", "p1", "p2", "p3"),
        (
            Arm(
                "a",
                np.array([[1, NAN], [NAN, NAN], [0, 1], [1, 1]]),
                {(1, 0): "the judge did not answer"},
            ),
            Arm("b", np.array([0, 1, NAN, 0]), {(2,): "time ran out"}),
        ),
    )
    pair = whole.pair("a", "b")
    assert pair.prompts == ("p0", "p3")
    assert pair.difference_P.tolist() == [1.0, 1.0]
    assert pair.left_out.prompts == 2
    assert pair.left_out.samples == 4
    assert pair.left_out.why == {
        f"a: {NO_REASON}": 2,
        "a: the judge did not answer": 1,
        "b: time ran out": 1,
    }
    assert "2 prompts and 4 failed items" in pair.left_out.sentence
    assert "b: time ran out (1)" in pair.left_out.sentence


def test_nothing_left_out_says_nothing() -> None:
    assert arms([0, 1, 0], [0, 0, 0]).pair("a", "b").left_out.sentence == ""


def test_a_prompt_that_one_training_seed_lacks_is_left_out_for_all_seeds() -> None:
    pair = arms([[[1], [1], [1]], [[NAN], [0], [0]]], [0, 0, 0]).pair("a", "b")
    assert pair.prompts == ("p1", "p2")
    assert pair.difference_P.tolist() == [0.5, 0.5]
    assert pair.seeds == (2, 1)


def test_it_knows_what_a_two_by_two_table_needs() -> None:
    assert arms([0, 1, 0], [0, 0, 1]).pair("a", "b").paired_answers
    assert not arms([0, 0.5, 0], [0, 0, 1]).pair("a", "b").paired_answers
    several = arms([[0, 1]] * 3, [[0, 1]] * 3).pair("a", "b")
    assert several.binary
    assert not several.paired_answers


def test_bounds_are_those_of_the_scores_and_0_to_1_at_least() -> None:
    assert arms([0.2, 0.4, 0.6], [0, 0, 0]).pair("a", "b").bounds == (0.0, 1.0)
    assert arms([-3, 4, 0], [0, 9, 0]).pair("a", "b").bounds == (-3.0, 9.0)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Arm("a", np.zeros((1, 2, 3, 4))), "shape"),
        (lambda: Arm("a", np.zeros((0, 3))), "none of them 0"),
        (lambda: Arm("a", np.array([1.0, np.inf])), "infinite"),
        (lambda: Arm("a", np.array([1.0, NAN]), {(5,): "x"}), "no item"),
        (lambda: Arm("a", np.array([1.0, NAN]), {(0,): "x"}), "has a score"),
        (lambda: arms([0, 1, 0], [0, 1]), "2 prompts where there are 3"),
        (lambda: Arms(("p", "p"), ()), "'p' is there twice"),
        (
            lambda: Arms(("p",), (Arm("a", np.zeros(1)), Arm("a", np.zeros(1)))),
            "'a' is there twice",
        ),
        (lambda: arms([0, 1, 0], [0, 0, 0]).pair("a", "c"), "no arm 'c'; there are 'a', 'b'"),
        (lambda: arms([0, 1, 0], [0, 0, 0]).pair("a", "a"), "the candidate itself"),
        (lambda: arms([0, NAN, NAN], [NAN, 1, 1]).pair("a", "b"), "no prompt on which both"),
    ],
)
def test_bad_input_is_told_in_words(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]
