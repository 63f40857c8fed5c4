"""What a voter finds, in words that give nothing away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.selectors.ballot_pool import Pool
from orchestrator.selectors.vote_room import FEW, Room, room_of, sides_told, voted_by
from tests.orchestrator.compared import compared, voted

if TYPE_CHECKING:
    from orchestrator.models import User

PLACES = [(item, 0) for item in range(3)]


def pool(**words: Any) -> Pool:
    return Pool(arms=(1, 2), texts={place: {1: "a", 2: "b"} for place in PLACES}, **words)


def test_what_is_left_does_not_tell_test_items() -> None:
    words = [Room("open", "", 200, left, 0).left_words for left in (123, 122, FEW, 1, 0)]
    few = f"fewer than {FEW + 1} left"
    assert words == ["about 120 left", "about 120 left", few, few, "nothing left"]


def test_states() -> None:
    assert room_of(pool()) == Room("open", "", 3, 3, 0)
    done = room_of(pool(seen={(place, (1, 2)) for place in PLACES}))
    assert (done.state, done.pairs, done.left) == ("done", 3, 0)
    assert room_of(Pool(arms=(1,))).state == "one-arm"
    assert room_of(Pool(arms=(1, 2))).state == "not-ready"
    same = room_of(Pool(arms=(1, 2), texts={(1, 0): {1: "a", 2: "a"}}))
    assert (same.state, same.identical) == ("identical", 1)
    aside = room_of(pool(aside=frozenset({0, 1})))
    assert (aside.state, aside.pairs) == ("open", 1)


@pytest.mark.django_db
def test_names_and_counts_after_the_vote(ada: User) -> None:
    comparison = compared(ada)
    vote = voted(comparison, ada, 0, "tie", ("tuned", "base"))
    told = sides_told(vote)
    assert (told["left"]["name"], told["right"]["position"]) == ("tuned", 0)
    assert voted_by(comparison, ada) == 1
    vote.undone = vote.created
    vote.save()
    assert voted_by(comparison, ada) == 0
