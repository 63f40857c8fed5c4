"""Blind votes by REST: what a ballot shows, that a vote counts once, and who may vote."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connections
from django.test import Client

from orchestrator.models import Ballot, Checkpoint, Vote
from tests.orchestrator.compared import compared

if TYPE_CHECKING:
    from orchestrator.models import Comparison, Run, User

pytestmark = pytest.mark.django_db(transaction=True)
SORT = "application/json"


class Booth:
    """A voter at a comparison."""

    def __init__(self, comparison: Comparison, headers: dict[str, str]) -> None:
        self.url, self.headers, self.client = (
            f"/api/comparisons/{comparison.pk}",
            headers,
            Client(),
        )

    def post(self, part: str, **body: Any) -> Any:
        return self.client.post(f"{self.url}/{part}", body, SORT, headers=self.headers)

    def take(self) -> dict[str, Any]:
        answer = self.post("ballots")
        assert answer.status_code == 200, answer.content
        return dict(answer.json())

    def cast(self, outcome: str = "left") -> dict[str, Any]:
        answer = self.post("votes", ballot=self.take()["ballot"], outcome=outcome, seconds=1.5)
        assert answer.status_code == 201, answer.content
        return dict(answer.json())


@pytest.fixture
def booth(ada: User, bearer: Any) -> Booth:
    return Booth(compared(ada, items=4), bearer(ada, "operate"))


def test_names_come_with_the_answer_to_the_vote(booth: Booth) -> None:
    ballot = booth.take()
    assert ballot["voted"] == 0 and ballot["left_words"] == "fewer than 21 left"
    told = booth.cast("tie")
    assert {told["left"]["name"], told["right"]["name"]} == {"base", "tuned"}
    vote = Vote.objects.get(pk=told["id"])
    assert (vote.left.name, vote.outcome, told["voted"]) == (told["left"]["name"], "tie", 1)


def test_a_ballot_holds_nothing_of_the_models(ada: User, run: Run, bearer: Any) -> None:
    comparison = compared(ada, arms=("alpha-7b", "omega-7b"), items=6, name="which one")
    for arm in comparison.arms.all():
        arm.checkpoint = Checkpoint.objects.create(
            run=run, attempt=1, step=100 + arm.position, path="p", sha256="0" * 64
        )
        arm.model = f"checkpoint:{arm.checkpoint_id}"
        arm.save()
    booth = Booth(comparison, bearer(ada, "operate"))
    for _ in range(6):
        answer = booth.post("ballots")
        told = answer.content.decode() + str(dict(answer.items()))
        for arm in comparison.arms.all():
            for secret in (arm.name, arm.digest, arm.checkpoint_id, run.pk, arm.model):
                assert secret not in told
        assert set(answer.json()) == {"ballot", "prompt", "left", "right", "voted", "left_words"}
        booth.cast()


def test_a_vote_counts_once(booth: Booth) -> None:
    ballot = booth.take()["ballot"]
    assert booth.post("votes", ballot=ballot, outcome="left").status_code == 201
    second = booth.post("votes", ballot=ballot, outcome="right")
    assert second.status_code == 409 and "another tab" in second.json()["detail"]
    assert Vote.objects.get().outcome == "left"


def test_two_tabs_at_once(booth: Booth) -> None:
    """Two requests that run side by side: one ballot, one vote."""
    tokens: list[str] = []
    codes: list[int] = []

    def at_once(work: Any) -> None:
        gate = threading.Barrier(2)

        def one() -> None:
            gate.wait()
            work()
            connections.close_all()

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    at_once(lambda: tokens.append(booth.take()["ballot"]))
    assert Ballot.objects.count() == 1
    at_once(lambda: codes.append(booth.post("votes", ballot=tokens[0], outcome="left").status_code))
    assert sorted(codes) == [201, 409]
    assert Vote.objects.count() == 1


def test_a_vote_is_taken_back(booth: Booth, bob: User, bearer: Any) -> None:
    told = booth.cast()
    url = f"{booth.url}/votes/{told['id']}"
    assert booth.client.delete(url, headers=bearer(bob)).status_code == 404
    assert booth.client.delete(url, headers=booth.headers).status_code == 204
    again = booth.client.delete(url, headers=booth.headers)
    assert again.status_code == 409 and "already" in again.json()["detail"]
    assert booth.take()["voted"] == 0


def test_nothing_left_is_told(booth: Booth) -> None:
    for _ in range(4):
        booth.cast()
    answer = booth.post("ballots")
    assert answer.status_code == 409 and "every pair" in answer.json()["detail"]


def test_who_votes(ada: User, vera: User, alma: User, bearer: Any, client: Client) -> None:
    comparison = compared(ada)
    assert Booth(comparison, bearer(alma)).post("ballots").status_code == 200
    assert Booth(comparison, bearer(ada, "read")).post("ballots").status_code == 403
    refused = Booth(comparison, bearer(vera)).post("ballots")
    assert refused.status_code == 403 and "whom an admin allowed" in refused.json()["detail"]
    vera.user_permissions.add(Permission.objects.get(codename="add_vote"))
    assert Booth(comparison, bearer(vera)).cast()["voted"] == 1
    assert Booth(comparison, bearer(vera, "read")).post("ballots").status_code == 403
    client.force_login(vera)
    url = f"/api/comparisons/{comparison.pk}/ballots"
    assert client.post(url, {}, SORT).status_code == 200


def test_test_items_are_marked_by_admins(ada: User, alma: User, bearer: Any) -> None:
    booth = Booth(compared(ada), bearer(alma))
    told = booth.cast("right")
    made = booth.post("gold", vote=told["id"])
    assert made.status_code == 201
    assert (made.json()["better"], made.json()["by"]) == (told["right"]["name"], "alma")
    assert booth.post("gold", vote=told["id"]).status_code == 409
    assert booth.post("gold", vote=2**62).status_code == 404
    gold = f"{booth.url}/gold"
    assert len(booth.client.get(gold, headers=booth.headers).json()) == 1
    assert booth.client.get(gold, headers=bearer(ada)).status_code == 403
    one = f"{gold}/{made.json()['id']}"
    assert booth.client.delete(one, headers=booth.headers).status_code == 204
    assert booth.client.delete(one, headers=booth.headers).status_code == 404


ODD = [None, [], {}, 1, "", "\x00", "x" * 5000, "é\u202e\U0001f600", "eyJ:1:x", "W10:1vP:x", True]


@pytest.mark.parametrize("field", ["ballot", "outcome", "seconds", "more"])
def test_odd_votes_are_refused(booth: Booth, field: str) -> None:
    good = {"ballot": booth.take()["ballot"], "outcome": "left", "seconds": 1.0}
    odd = [*ODD, "NaN", -1, 1e9] if field == "seconds" else ODD
    for value in odd:
        if field == "seconds" and value in (1, True):
            continue
        answer = booth.post("votes", **{**good, field: value})
        assert answer.status_code == 422, (field, value, answer.content)
        assert answer["Content-Type"] == "application/problem+json"
    for body in ("null", "[]", "{", '{"seconds": NaN}', json.dumps({**good, "seconds": 1})[:-1]):
        url = f"{booth.url}/votes"
        answer = booth.client.post(url, body, SORT, headers=booth.headers)
        assert answer.status_code in (400, 422)
    assert not Vote.objects.exists()


@pytest.mark.parametrize("odd", ["0", "-1", "x", "99999999999999999999999999", "%00"])
def test_odd_ids_are_not_found(booth: Booth, odd: str) -> None:
    for url in (f"{booth.url}/votes/{odd}", f"/api/comparisons/{odd}/votes/1"):
        answer = booth.client.delete(url, headers=booth.headers)
        assert answer.status_code in (404, 422), answer.content
