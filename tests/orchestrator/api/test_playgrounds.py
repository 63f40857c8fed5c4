"""Playgrounds by REST: shapes, refusals, roles, and whatever else may be sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Run
from tests.orchestrator.odd_values import ODD_JSON
from tests.orchestrator.playing import models_two, played, playground_ready
from tests.orchestrator.telemetry import push

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Node, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def send(client: Client, bearer: Any) -> Any:
    def sent(user: User, method: str, path: str, body: Any = None, **headers: str) -> Any:
        words = {} if body is None else {"data": json.dumps(body)}
        return client.generic(
            method, f"/api/playgrounds{path}", content_type="application/json",
            headers={**bearer(user), **headers}, **words,
        )  # fmt: skip

    return sent


def test_open_ask_read_stop(send: Any, ada: User, vera: User, node: Node) -> None:
    order = {"models": models_two(ada), "idle_minutes": 3, "name": "which"}
    answer = send(ada, "POST", "", order, **{"Idempotency-Key": "k"})
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert answer["Location"] == f"/api/playgrounds/{made['id']}"
    assert (made["name"], made["state"], made["ready"], made["over"]) == (
        *("which", "queued", False, False),
    )
    assert send(ada, "POST", "", order, **{"Idempotency-Key": "k"}).json()["id"] == made["id"]
    path = f"/{made['id']}"
    asked = send(ada, "POST", f"{path}/questions", {"prompt": "x", "voices": ["a"]})
    assert asked.status_code == 201, asked.content
    assert asked.json()["state"] == "waiting" and asked.json()["question"]["max_new_tokens"] == 64
    assert send(vera, "GET", path).json()["open"] == 1
    assert send(vera, "GET", "").json()["count"] == 1

    run = Run.objects.get(pk=made["id"])
    Run.objects.filter(pk=run.pk).update(state="running", phase="play", node=node, attempt=1)
    run.attempts.create(number=1, node=node)
    push(run, [played(1, asked.json()["id"])], source="samples")
    (found,) = send(vera, "GET", f"{path}/questions?ids={asked.json()['id']}").json()["questions"]
    assert found["state"] == "answered" and found["by"] == "ada"
    assert found["answers"][0]["tokens"][1]["logps"] == {"a": -0.25, "b": "-Infinity"}
    assert send(vera, "GET", f"{path}/questions?after={found['id']}").json() == {"questions": []}

    assert send(ada, "POST", f"{path}/stop").status_code == 200
    Run.objects.filter(pk=run.pk).update(state="stopped")
    assert send(ada, "POST", f"{path}/stop").status_code == 409
    refused = send(ada, "POST", f"{path}/questions", {"prompt": "x"})
    assert refused.status_code == 409 and "has ended" in refused.json()["detail"]


def test_fields_are_named_as_the_caller_knows_them(send: Any, ada: User) -> None:
    answer = send(ada, "POST", "", {"models": ["checkpoint:aaaaaaaaaaaa", "x"]})
    assert answer.status_code == 422
    assert [one["path"] for one in answer.json()["errors"]] == ["models.0"]


def test_others_only_look(send: Any, ada: User, bob: User, vera: User, node: Node) -> None:
    path = f"/{playground_ready(ada, node).pk}"
    assert send(vera, "POST", "", {"models": ["a", "b"]}).status_code == 403
    for user in (bob, vera):
        assert send(user, "POST", f"{path}/questions", {"prompt": "x"}).status_code == 403
        assert send(user, "POST", f"{path}/stop").status_code == 403
        assert send(user, "GET", f"{path}/questions").json() == {"questions": []}


def test_a_run_of_another_kind_is_no_playground(send: Any, ada: User, run: Run) -> None:
    for path in (f"/{run.pk}", "/aaaaaaaaaaaa", "/%00", f"/{run.pk}/questions"):
        assert send(ada, "GET", path).status_code == 404, path


def test_whatever_is_sent_is_answered(send: Any, ada: User, node: Node) -> None:
    path = f"/{playground_ready(ada, node).pk}"
    for odd in ODD_JSON:
        for place, body in (
            ("", {"models": odd}),
            ("", {"models": [odd, odd]}),
            ("", {"models": ["a", "b"], "idle_minutes": odd}),
            (f"{path}/questions", odd),
            *((f"{path}/questions", {"prompt": "x", name: odd}) for name in ("prompt", "voices", "blend", "seed")),
        ):  # fmt: skip
            assert send(ada, "POST", place, body).status_code in (201, 409, 422), (place, body)
    for query in ("ids=9999999999999999999999", "ids=a", "after=-1", "limit=0", "ids=%00", "ids=,"):
        assert send(ada, "GET", f"{path}/questions?{query}").status_code in (200, 422), query
