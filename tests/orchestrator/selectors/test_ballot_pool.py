"""What can be voted on: which answers count as the same, which prompts are set aside, which pairs are gold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from orchestrator.models import Answer, Arm
from orchestrator.selectors.ballot_pool import ballot_pool, exact_scorers, set_aside
from orchestrator.selectors.vote_room import room_of
from tests.orchestrator.compared import EXACT, compared, scored, voted

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def test_space_around_an_answer_is_no_difference(ada: User) -> None:
    comparison = compared(
        ada, items=2, text=lambda arm, n, i: f"\n{n} " if arm == "base" else f"{n}"
    )
    pool = ballot_pool(comparison)
    assert pool.identical() == 2 and not pool.left(pool.sides()[0])


def test_answers_under_other_conditions_are_not_shown(ada: User) -> None:
    comparison = compared(ada, items=3)
    comparison.seed = 7
    comparison.save()
    assert ballot_pool(comparison).texts == {}


def test_equal_weights_under_two_names_are_equal_everywhere(ada: User) -> None:
    comparison = compared(ada, items=3, arms=("a", "b"))
    Arm.objects.filter(name="b").update(digest=comparison.arms.get(name="a").digest)
    pool = ballot_pool(comparison)
    assert pool.identical() == 3 and room_of(pool).state == "identical"


def test_a_share_of_the_prompts_is_set_aside_whatever_the_answers(ada: User) -> None:
    comparison = compared(ada, items=40, scorers=[EXACT])
    items = dict(comparison.items.values_list("digest", "pk"))
    first = set_aside(comparison, items)
    assert len(first) == 4
    Answer.objects.all().delete()
    assert set_aside(comparison, items) == first
    another = compared(ada, items=40, scorers=[EXACT], name="another")
    theirs = dict(another.items.values_list("digest", "pk"))
    assert items.keys() == theirs.keys()
    chosen = {digest for digest, pk in theirs.items() if pk in set_aside(another, theirs)}
    assert chosen != {digest for digest, pk in items.items() if pk in first}, "each has its own"


def test_nothing_is_set_aside_without_an_exact_scorer(ada: User) -> None:
    comparison = compared(ada, items=40, scorers=[{"type": "length-window", "low": 1, "high": 5}])
    assert exact_scorers(comparison) == []
    assert ballot_pool(comparison).aside == frozenset()


def test_gold_needs_one_right_and_one_wrong(ada: User) -> None:
    comparison = compared(ada, items=60, scorers=[EXACT])
    scored(comparison, lambda arm, number: float(arm == "tuned" or number % 2 == 0))
    pool = ballot_pool(comparison)
    tuned = comparison.arms.get(name="tuned").pk
    numbers = dict(comparison.items.values_list("pk", "number"))
    assert set(pool.gold.values()) <= {tuned}
    assert {item for (item, _), _ in pool.gold} == {
        item for item in pool.aside if numbers[item] % 2
    }


def test_votes_and_what_was_seen(ada: User, bob: User) -> None:
    comparison = compared(ada, items=3)
    voted(comparison, ada, 0, "left")
    back = voted(comparison, ada, 1, "left", ("tuned", "base"))
    back.undone = back.created
    back.save()
    voted(comparison, bob, 0, "tie", ("tuned", "base"))
    voted(comparison, bob, 2, "left", gold="left")
    pool = ballot_pool(comparison, ada)
    place = {number: (comparison.items.get(number=number).pk, 0) for number in range(3)}
    sides = pool.sides()[0]
    assert dict(pool.votes) == {(place[0], sides): 2}
    assert pool.seen == {(place[0], sides), (place[1], sides)}
    assert pool.left(sides) == [place[2]]
