"""Which votes make a preference: a majority by weight; ties, splits and test items make none."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrator.services.preference_votes import BOTH_BAD, GOLD, SPLIT, TIE, preferences

A, B = 5, 7


def vote(judge: str, outcome: str, *, item: int = 1, turned: bool = False, gold: str = "") -> Any:
    left, right = (B, A) if turned else (A, B)
    voter = SimpleNamespace(get_username=lambda: judge)
    return SimpleNamespace(
        voter=voter, outcome=outcome, item_id=item, index=0, left_id=left, right_id=right, gold=gold
    )


def test_a_majority_wins_whatever_the_sides() -> None:
    (one,), left_out = preferences(
        [vote("x", "left"), vote("y", "right", turned=True), vote("z", "right"), vote("w", "tie")],
        {},
    )
    assert (one.chosen, one.rejected) == (A, B)
    assert one.votes == {"chosen": 2, "rejected": 1, "tie": 1, "both_bad": 0}
    assert one.judges == ("w", "x", "y", "z") and one.agreement == 0.5
    assert not left_out


def test_what_makes_no_preference_is_counted() -> None:
    found, left_out = preferences(
        [
            vote("x", "tie", item=1),
            vote("x", "both-bad", item=2),
            vote("x", "left", item=3),
            vote("y", "right", item=3),
            vote("x", "left", item=4, gold="left"),
            vote("x", "left", item=5),
            vote("y", "tie", item=5),
            vote("z", "tie", item=5),
        ],
        {},
    )
    assert found == []
    assert left_out == {TIE: 2, BOTH_BAD: 1, SPLIT: 1, GOLD: 1}


def test_weights_decide() -> None:
    votes = [vote("sure", "left"), vote("blind", "right"), vote("deaf", "right")]
    (by_count,), _ = preferences(votes, {})
    (by_weight,), _ = preferences(votes, {"blind": 0.1, "deaf": 0.2})
    assert (by_count.chosen, by_weight.chosen) == (B, A)
    assert by_weight.agreement == 1 / 1.3
    assert by_weight.votes == {"chosen": 1, "rejected": 2, "tie": 0, "both_bad": 0}


def test_votes_without_weight_decide_nothing() -> None:
    assert preferences([vote("blind", "left")], {"blind": 0.0}) == ([], {SPLIT: 1})
