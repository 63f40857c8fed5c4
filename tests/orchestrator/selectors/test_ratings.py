"""Ratings as the API and the page give them: people and models apart, and careful words."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from orchestrator import evidence
from orchestrator.selectors.ratings import GUESSING, ratings_shape
from orchestrator.selectors.votes import people_votes
from tests.orchestrator.compared import compared, judged, voted

if TYPE_CHECKING:
    from orchestrator.models import Comparison, User

pytestmark = pytest.mark.django_db


def decided(ada: User, bob: User, items: int = 30, share: float = 0.9) -> Comparison:
    """`tuned` wins most, each voter having the sides drawn."""
    comparison = compared(ada, items=items)
    chance = random.Random(0)
    for number in range(items):
        for voter in (ada, bob):
            sides = ("base", "tuned") if chance.random() < 0.5 else ("tuned", "base")
            winner = "tuned" if chance.random() < share else "base"
            voted(comparison, voter, number, "left" if sides[0] == winner else "right", sides)
    return comparison


def test_without_votes_it_says_so(ada: User) -> None:
    found = ratings_shape(compared(ada))
    assert found["people"]["sentence"] == "Nobody has voted yet."
    assert found["models"]["sentence"] == "No judge model was asked."
    assert found["people"]["ratings"] == [] and found["people"]["tie_share"] is None


def test_they_are_those_of_the_evidence(ada: User, bob: User) -> None:
    comparison = decided(ada, bob)
    people = ratings_shape(comparison)["people"]
    direct = evidence.ratings(people_votes(comparison))
    assert [(one["arm"], one["rating"]) for one in people["ratings"]] == [
        (one.arm, one.rating) for one in direct.ratings
    ]
    assert people["ratings"][0]["arm"] == "tuned" and people["ratings"][1]["rank"] == 2
    assert people["sentence"].startswith("tuned is ahead of base (60 votes on 30 prompts")
    assert people["cautions"][0].startswith("Few votes")
    won = {(one["arm"], one["against"]): one for one in people["wins"]}
    assert won["tuned", "base"]["wins"] == won["base", "tuned"]["losses"]
    assert people["agreement"][0]["kappas"][0]["shared"] == 30


def test_equal_answers_are_told_apart(ada: User) -> None:
    comparison = compared(ada, items=5, text=lambda arm, n, i: f"{arm}" if n else "same")
    voted(comparison, ada, 1, "tie")
    found = ratings_shape(comparison)
    assert (found["identical"], found["people"]["votes"]) == (1, 1)


def test_few_votes_claim_no_order(ada: User, bob: User) -> None:
    people = ratings_shape(decided(ada, bob, items=9, share=1.0))["people"]
    assert people["sentence"].startswith(
        "Not enough votes to say which is better: 18 votes on 9 prompts"
    )
    assert people["ratings"], "the figures are given all the same"
    assert any("how large the distance is" in words for words in people["cautions"])


def test_votes_that_leave_it_open(ada: User, bob: User) -> None:
    people = ratings_shape(decided(ada, bob, share=0.5))["people"]
    assert people["sentence"].startswith("No model is surely ahead")


def test_one_voter_is_one_taste(ada: User) -> None:
    comparison = compared(ada, items=25)
    for number in range(25):
        voted(comparison, ada, number, "tie" if number % 3 else "left")
    people = ratings_shape(comparison)["people"]
    assert any("one person's" in words for words in people["cautions"])
    assert any("ties or both bad" in words for words in people["cautions"])
    assert people["fleiss"] is None


def test_models_judgements_are_kept_apart(ada: User, bob: User) -> None:
    comparison = decided(ada, bob)
    before = ratings_shape(comparison)["people"]
    for number in range(30):
        judged(comparison, number, "left")
        judged(comparison, number, "right", ("tuned", "base"))
    judged(comparison, 0, "", repeat=1, problem="nonsense")
    found = ratings_shape(comparison)
    assert found["people"] == before
    models = found["models"]
    assert (models["votes"], models["failed"], models["judges"]) == (60, 1, 1)
    assert models["ratings"][0]["arm"] == "base"
    assert (models["position"]["swapped"], models["position"]["consistent"]) == (30, 1.0)


def test_weights_come_from_test_items(ada: User, bob: User) -> None:
    comparison = decided(ada, bob)
    for number in range(20):
        side = "left" if number % 2 else "right"
        voted(comparison, ada, number, side, gold=side, index=1)
        voted(comparison, bob, number, "left", gold=side, index=1)
    people = ratings_shape(comparison, weighted=True)["people"]
    judges = {one["judge"]: one for one in people["agreement"]}
    assert judges["ada"]["gold_right"] == 1.0 and judges["bob"]["gold_right"] == 0.5
    assert judges["ada"]["weight"] > 0.8 and judges["bob"]["weight"] < 0.3
    assert (people["votes"], people["gold"]) == (60, 40), "test items rate no model"


def test_weights_of_nothing_but_guesses(ada: User, bob: User) -> None:
    comparison = decided(ada, bob, items=12)
    for number in range(12):
        for voter in (ada, bob):
            voted(
                comparison, voter, number, "left", gold="left" if number % 2 else "right", index=1
            )
    people = ratings_shape(comparison, weighted=True)["people"]
    assert people["sentence"] == GUESSING and not people["ratings"]


def test_style_control_takes_length_out(ada: User, bob: User) -> None:
    comparison = compared(
        ada,
        items=80,
        text=lambda arm, n, i: "x" * (10 + (90 if (arm == "tuned") == (n % 4 > 0) else 0)),
    )
    chance = random.Random(0)
    for number in range(80):
        # The longer answer wins five of six votes, whoever wrote it; on three of four prompts tuned's is longer.
        longer, other = ("tuned", "base") if number % 4 > 0 else ("base", "tuned")
        for voter in (ada, bob):
            sides = ("base", "tuned") if chance.random() < 0.5 else ("tuned", "base")
            winner = longer if chance.random() < 5 / 6 else other
            voted(comparison, voter, number, "left" if sides[0] == winner else "right", sides)
    plain = ratings_shape(comparison)["people"]["ratings"]
    fair = ratings_shape(comparison, style_control=True)["people"]
    rating = [{one["arm"]: one["rating"] for one in rows} for rows in (plain, fair["ratings"])]
    gap = [of["tuned"] - of["base"] for of in rating]
    assert gap[0] > 80 and abs(gap[1]) < gap[0] / 2
    assert [one["feature"] for one in fair["style"]] == ["length"]
    assert fair["style"][0]["points"] > 100


def test_models_that_never_met_are_told(ada: User) -> None:
    comparison = compared(ada, arms=("a", "b", "c", "d"), items=6)
    for number in range(6):
        voted(comparison, ada, number, "left", ("a", "b"))
        voted(comparison, ada, number, "left", ("c", "d"))
    assert "was never compared with" in ratings_shape(comparison)["people"]["sentence"]
