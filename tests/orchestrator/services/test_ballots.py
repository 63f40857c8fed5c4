"""Ballots say nothing of the pair, votes count once, and names come after."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from orchestrator.models import Answer, Ballot, GoldMark, User, Vote
from orchestrator.selectors.ratings import ratings_shape
from orchestrator.services import ballots
from orchestrator.services.ballots import (
    NothingToVote,
    Settled,
    ballot_next,
    ballot_token,
    gold_mark,
    gold_unmark,
    may_vote,
    vote_cast,
    vote_undo,
)
from tests.orchestrator.compared import EXACT, compared, scored, voted

if TYPE_CHECKING:
    from orchestrator.models import Comparison

pytestmark = pytest.mark.django_db


def cast(comparison: Comparison, voter: User, outcome: str = "left", **words: Any) -> Vote:
    ballot, _ = ballot_next(comparison=comparison, voter=voter)
    token = ballot_token(ballot)
    return vote_cast(comparison=comparison, voter=voter, token=token, outcome=outcome, **words)


def test_a_vote_is_stored_as_it_was_shown(ada: User) -> None:
    comparison = compared(ada)
    ballot, texts = ballot_next(comparison=comparison, voter=ada)
    by_arm = {arm.pk: arm.digest for arm in comparison.arms.all()}
    for side in ("left", "right"):
        answer = Answer.objects.get(
            model=by_arm[getattr(ballot, f"{side}_id")], item=ballot.item.digest
        )
        assert texts[side] == answer.text
    Ballot.objects.update(created=timezone.now() - timedelta(seconds=30))
    vote = vote_cast(
        comparison=comparison, voter=ada, token=ballot_token(ballot), outcome="right", seconds=4.5
    )
    assert (vote.item_id, vote.left_id, vote.right_id) == (
        ballot.item_id,
        ballot.left_id,
        ballot.right_id,
    )
    assert (vote.outcome, vote.seconds, vote.gold) == ("right", 4.5, "")


def test_a_ballot_says_nothing_of_the_pair(ada: User) -> None:
    comparison = compared(ada)
    ballot, texts = ballot_next(comparison=comparison, voter=ada)
    readable = ballot_token(ballot).partition(":")[0]
    decoded = json.loads(base64.urlsafe_b64decode(readable + "=" * (-len(readable) % 4)))
    assert decoded == [ballot.pk, ada.pk]
    assert set(texts) == {"prompt", "left", "right"}


def test_loading_again_draws_no_other_pair(ada: User, bob: User) -> None:
    comparison = compared(ada, items=50)
    first, texts = ballot_next(comparison=comparison, voter=ada)
    for _ in range(5):
        again, same = ballot_next(comparison=comparison, voter=ada)
        assert (again.pk, same) == (first.pk, texts)
    assert ballot_next(comparison=comparison, voter=bob)[0].pk != first.pk


def test_an_old_ballot_makes_room_for_another(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = compared(ada, items=50)
    first, _ = ballot_next(comparison=comparison, voter=ada)
    token = ballot_token(first)
    Ballot.objects.update(created=timezone.now() - timedelta(hours=5))
    second, _ = ballot_next(comparison=comparison, voter=ada)
    assert second.pk != first.pk
    with pytest.raises(Settled):
        vote_cast(comparison=comparison, voter=ada, token=token, outcome="left")
    monkeypatch.setattr(ballots, "EXPIRES_SECONDS", -1)
    with pytest.raises(Settled, match="take a new one"):
        vote_cast(comparison=comparison, voter=ada, token=ballot_token(second), outcome="left")
    assert not Vote.objects.exists()


def test_a_ballot_whose_answer_is_gone_makes_room_for_another(ada: User) -> None:
    comparison = compared(ada)
    first, texts = ballot_next(comparison=comparison, voter=ada)
    Answer.objects.filter(text=texts["left"]).delete()
    second, _ = ballot_next(comparison=comparison, voter=ada)
    assert second.item_id != first.item_id


def test_a_second_click_does_not_count(ada: User) -> None:
    comparison = compared(ada)
    token = ballot_token(ballot_next(comparison=comparison, voter=ada)[0])
    vote_cast(comparison=comparison, voter=ada, token=token, outcome="left")
    with pytest.raises(Settled, match="The first one counts"):
        vote_cast(comparison=comparison, voter=ada, token=token, outcome="right")
    assert Vote.objects.get().outcome == "left"


def test_ballots_of_others_and_forged_ones_are_refused(ada: User, bob: User) -> None:
    comparison, another = compared(ada), compared(ada, name="another")
    token = ballot_token(ballot_next(comparison=comparison, voter=ada)[0])
    words = {"comparison": comparison, "outcome": "left"}
    with pytest.raises(ValueError, match="somebody else"):
        vote_cast(voter=bob, token=token, **words)
    with pytest.raises(ValueError, match="not one that this server"):
        vote_cast(voter=ada, token=token, comparison=another, outcome="left")
    for forged in (
        "",
        "x",
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        token.partition(":")[0],
    ):
        with pytest.raises(ValueError, match="not one that this server"):
            vote_cast(voter=ada, token=forged, **words)
    with pytest.raises(ValueError, match="outcome: must be one of"):
        vote_cast(voter=ada, token=token, comparison=comparison, outcome="both")
    assert not Vote.objects.exists()


def test_no_pair_comes_twice_for_a_voter(ada: User, bob: User) -> None:
    comparison = compared(ada, arms=("a", "b", "c"), items=4)
    seen = {
        (vote.item_id, *sorted((vote.left_id, vote.right_id)))
        for vote in (cast(comparison, ada) for _ in range(12))
    }
    assert len(seen) == 12
    with pytest.raises(NothingToVote, match="every pair"):
        ballot_next(comparison=comparison, voter=ada)
    assert cast(comparison, bob).voter == bob


def test_failed_and_equal_answers_are_never_shown(ada: User) -> None:
    comparison = compared(
        ada, text=lambda arm, number, index: " same\n" if number < 4 and arm == "base" else "same"
    )
    with pytest.raises(NothingToVote, match="same answer"):
        ballot_next(comparison=comparison, voter=ada)
    failed = compared(ada, name="failed")
    Answer.objects.filter(model=failed.arms.first().digest).update(problem="too long", text="")
    with pytest.raises(NothingToVote, match="No two models"):
        ballot_next(comparison=failed, voter=ada)


def test_one_model_is_no_choice(ada: User) -> None:
    with pytest.raises(NothingToVote, match="one model only"):
        ballot_next(comparison=compared(ada, arms=("alone",)), voter=ada)


def test_seconds_are_never_more_than_have_passed(ada: User) -> None:
    assert cast(compared(ada), ada, seconds=3600.0).seconds < 60


def test_a_vote_is_taken_back_once_and_its_pair_does_not_come_again(ada: User, bob: User) -> None:
    comparison = compared(ada, items=1)
    vote = cast(comparison, ada)
    with pytest.raises(Vote.DoesNotExist):
        vote_undo(comparison=comparison, voter=bob, vote_id=vote.pk)
    vote_undo(comparison=comparison, voter=ada, vote_id=vote.pk)
    vote.refresh_from_db()
    assert vote.undone is not None
    with pytest.raises(Settled, match="already"):
        vote_undo(comparison=comparison, voter=ada, vote_id=vote.pk)
    with pytest.raises(NothingToVote):
        ballot_next(comparison=comparison, voter=ada)


def test_test_items_come_from_the_exact_scorer_on_prompts_set_aside(
    ada: User, settings: Any
) -> None:
    comparison = compared(ada, items=40, scorers=[EXACT])
    scored(comparison, lambda arm, number: float(arm == "tuned"))
    settings.ANNEAL_GOLD_RATE = 1.0
    tuned = comparison.arms.get(name="tuned").pk
    votes = [cast(comparison, ada) for _ in range(10)]
    gold = [vote for vote in votes if vote.gold]
    assert len(gold) == 4, "a tenth of the prompts is set aside"
    assert all((v.left_id if v.gold == "left" else v.right_id) == tuned for v in gold)
    rest = [cast(comparison, ada) for _ in range(30)]
    assert not any(vote.gold for vote in rest)
    with pytest.raises(NothingToVote):
        ballot_next(comparison=comparison, voter=ada)


def test_the_rate_of_test_items_is_a_setting(ada: User, settings: Any) -> None:
    comparison = compared(ada, items=40, scorers=[EXACT])
    scored(comparison, lambda arm, number: float(arm == "tuned"))
    settings.ANNEAL_GOLD_RATE = 0.0
    assert not any(cast(comparison, ada).gold for _ in range(20))


def test_admins_mark_test_items(alma: User, ada: User, bob: User, settings: Any) -> None:
    comparison = compared(ada, items=3)
    vote = cast(comparison, alma, "right")
    with pytest.raises(PermissionDenied):
        gold_mark(comparison=comparison, user=ada, role=None, vote_id=vote.pk)
    with pytest.raises(PermissionDenied):
        gold_mark(comparison=comparison, user=alma, role="operator", vote_id=vote.pk)
    tie = cast(comparison, alma, "tie")
    with pytest.raises(ValueError, match="names no better answer"):
        gold_mark(comparison=comparison, user=alma, role=None, vote_id=tie.pk)
    mark = gold_mark(comparison=comparison, user=alma, role=None, vote_id=vote.pk)
    assert (mark.better_id, mark.worse_id) == (vote.right_id, vote.left_id)
    with pytest.raises(Settled, match="already"):
        gold_mark(comparison=comparison, user=alma, role=None, vote_id=vote.pk)
    settings.ANNEAL_GOLD_RATE = 1.0
    shown = cast(comparison, bob)
    assert shown.gold and shown.item_id == vote.item_id
    assert (shown.left_id if shown.gold == "left" else shown.right_id) == mark.better_id
    gold_unmark(comparison=comparison, user=alma, role=None, mark_id=mark.pk)
    assert not GoldMark.objects.exists()


def test_who_may_vote(ada: User, alma: User, vera: User) -> None:
    assert may_vote(ada) and may_vote(alma)
    assert not may_vote(vera)
    assert not may_vote(ada, "viewer") and not may_vote(ada, "operator", reads_only=True)
    vera.user_permissions.add(Permission.objects.get(codename="add_vote"))
    assert may_vote(User.objects.get(pk=vera.pk))
    assert not may_vote(User.objects.get(pk=vera.pk), reads_only=True)


def test_votes_of_others_are_counted_for_the_balance(ada: User, bob: User) -> None:
    comparison = compared(ada, arms=("a", "b", "c"), items=30)
    for number in range(10):
        voted(comparison, ada, number, "tie", ("a", "b"))
        voted(comparison, ada, number, "left", ("b", "c"))
    for _ in range(3):
        vote = cast(comparison, bob)
        assert {vote.left.name, vote.right.name} == {"a", "c"}


@pytest.mark.slow
def test_strengths_come_out_at_the_end_of_the_whole_road(
    ada: User, bob: User, alma: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ballots, votes and ratings as people use them: c wins four of five against b, and b against a."""
    chance = random.Random(7)
    monkeypatch.setattr(ballots.random, "SystemRandom", lambda: chance)
    comparison = compared(ada, arms=("a", "b", "c"), items=40, scorers=[EXACT])
    scored(comparison, lambda arm, number: float(arm == "c"))
    for turn in range(150):
        voter = (ada, bob, alma)[turn % 3]
        ballot, _ = ballot_next(comparison=comparison, voter=voter)
        left, right = ballot.left.name, ballot.right.name
        odds = 4.0 ** (ord(left) - ord(right))
        outcome = "left" if chance.random() < odds / (1 + odds) else "right"
        token = ballot_token(ballot)
        vote_cast(comparison=comparison, voter=voter, token=token, outcome=outcome)
    found = ratings_shape(comparison)["people"]
    assert [(one["arm"], one["rank"]) for one in found["ratings"]] == [("c", 1), ("b", 2), ("a", 3)]
    assert found["sentence"].startswith("c is ahead of b and a")
    assert 5 <= found["gold"] <= 30 and found["votes"] + found["gold"] == 150
    met = {one["votes"] for one in found["wins"]}
    assert max(met) - min(met) <= 4, "every two models met equally often"
    right = sum(judge["gold_right"] * judge["gold"] for judge in found["agreement"])
    assert right / found["gold"] > 0.6
