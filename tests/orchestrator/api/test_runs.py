"""Runs by REST: launch, look, steer."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client

from orchestrator.models import Run
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.conftest import SPEC

if TYPE_CHECKING:
    from orchestrator.models import User

pytestmark = pytest.mark.django_db


def launch(client: Client, headers: dict[str, str], key: str = "", **body: Any) -> Any:
    sent = {"spec": SPEC, **body}
    if key:
        headers = {**headers, "Idempotency-Key": key}
    return client.post("/api/runs", sent, "application/json", headers=headers)


def test_it_launches_a_run(client: Client, ada: User, bearer: Any) -> None:
    response = launch(client, bearer(ada, "operate"), name="first", tags=["a"], priority=3)
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["name"], body["state"], body["tags"], body["priority"]) == (
        "first",
        "queued",
        ["a"],
        3,
    )
    assert response["Location"] == f"/api/runs/{body['id']}"
    assert client.get(response["Location"], headers=bearer(ada, "read")).json()["id"] == body["id"]
    run = Run.objects.get()
    assert (run.owner, run.spec["budget"]["max_steps"]) == (ada, 10)


def test_a_viewer_may_not_launch(client: Client, vera: User, bearer: Any) -> None:
    assert_problem(launch(client, bearer(vera)), 403)
    assert not Run.objects.exists()


SPEC_FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "value": ({"optimizer": {"type": "adamw", "lr": -1}}, "spec.optimizer.lr"),
    "tag": ({"objective": {"type": "magic"}}, "spec.objective"),
    "knob": ({"objective": {"type": "grpo", "clip_low": -1}}, "spec.objective.clip_low"),
    "unknown": ({"colour": "red"}, "spec.colour"),
    "section": ({"budget": {"max_step": 1}}, "spec.budget.max_step"),
    "contradiction": ({"objective": {"type": "grpo"}, "rewards": []}, "spec.rewards"),
    "source": (
        {"data": {"train": [{"source": "arithmetic", "weight": 0}]}},
        "spec.data.train.0.weight",
    ),
}


@pytest.mark.parametrize("fault", SPEC_FAULTS)
def test_a_faulty_spec_is_refused_with_the_path_of_its_fault(
    client: Client, ada: User, bearer: Any, fault: str
) -> None:
    change, path = SPEC_FAULTS[fault]
    response = launch(client, bearer(ada), spec={**SPEC, **change})
    body = assert_problem(response, 422)
    assert path in [error["path"] for error in body["errors"]], body
    assert all(error["message"] for error in body["errors"])


def test_a_faulty_field_beside_the_spec_is_named(client: Client, ada: User, bearer: Any) -> None:
    for field, value in {"priority": "high", "max_restarts": -1, "colour": 1}.items():
        body = assert_problem(launch(client, bearer(ada), **{field: value}), 422)
        assert [error["path"] for error in body["errors"]] == [field]
    response = client.post("/api/runs", {}, "application/json", headers=bearer(ada))
    assert assert_problem(response, 422)["errors"][0]["path"] == "spec"


def test_a_spec_is_checked_without_launching(client: Client, vera: User, bearer: Any) -> None:
    good = client.post(
        "/api/runs/validate", {"spec": SPEC}, "application/json", headers=bearer(vera)
    )
    assert good.status_code == 200, good.content
    assert good.json()["errors"] == []
    bad = {**SPEC, "objective": {"type": "magic"}}
    found = client.post(
        "/api/runs/validate", {"spec": bad, "name": "x"}, "application/json", headers=bearer(vera)
    )
    assert [error["path"] for error in found.json()["errors"]] == ["objective"]
    assert not Run.objects.exists()


def test_the_same_key_launches_once(client: Client, ada: User, bob: User, bearer: Any) -> None:
    headers = bearer(ada)
    first, again = launch(client, headers, "k1"), launch(client, headers, "k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json()["id"] == again.json()["id"]
    assert_problem(launch(client, headers, "k1", name="other"), 409)
    assert Run.objects.count() == 1
    assert launch(client, bearer(bob), "k1").json()["id"] != first.json()["id"]


def test_a_refused_launch_uses_no_key_up(client: Client, ada: User, bearer: Any) -> None:
    headers = bearer(ada)
    bad = copy.deepcopy(SPEC) | {"model": {"name": "run:aaaaaaaaaaaa"}}
    assert_problem(launch(client, headers, "k1", spec=bad), 422)
    assert launch(client, headers, "k1").status_code == 201


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_once_with_one_key_launch_once(ada: User, bearer: Any) -> None:
    headers, answers = bearer(ada), []

    def post() -> None:
        answers.append(launch(Client(), headers, "k1"))
        connection.close()

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201] * 4
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert Run.objects.count() == 1


def test_lists_filter_and_page(client: Client, ada: User, bearer: Any) -> None:
    headers = bearer(ada)
    for number in range(3):
        launch(client, headers, name=f"run {number}", tags=["even"] if number % 2 == 0 else [])
    found = client.get("/api/runs?tag=even&per_page=1", headers=headers).json()
    assert (found["count"], len(found["items"])) == (2, 1)
    assert client.get("/api/runs?q=run 1", headers=headers).json()["items"][0]["name"] == "run 1"
    assert client.get("/api/runs?state=failed", headers=headers).json() == {"items": [], "count": 0}
    assert_problem(client.get("/api/runs?page=0", headers=headers), 422)


def test_a_run_is_stopped_with_a_reason(client: Client, run: Run, ada: User, bearer: Any) -> None:
    response = client.post(
        f"/api/runs/{run.pk}/stop", {"message": "enough"}, "application/json", headers=bearer(ada)
    )
    assert response.json()["state"] == "stopping"
    assert "enough" in response.json()["reason"]


def test_a_wrong_moment_is_a_conflict(client: Client, run: Run, ada: User, bearer: Any) -> None:
    body = assert_problem(client.post(f"/api/runs/{run.pk}/resume", headers=bearer(ada)), 409)
    assert "paused" in body["detail"]


def test_stopping_twice_with_one_key_is_one_stop(
    client: Client, run: Run, ada: User, bearer: Any
) -> None:
    run.process, run.state = "none", "queued"
    run.save()
    headers = {**bearer(ada), "Idempotency-Key": "s1"}
    first = client.post(
        f"/api/runs/{run.pk}/stop", content_type="application/json", headers=headers
    )
    again = client.post(
        f"/api/runs/{run.pk}/stop", content_type="application/json", headers=headers
    )
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert_problem(
        client.post(
            f"/api/runs/{run.pk}/stop", content_type="application/json", headers=bearer(ada)
        ),
        409,
    )


def test_a_run_is_renamed_and_annotated(client: Client, run: Run, ada: User, bearer: Any) -> None:
    changes = {"name": "better", "tags": ["x"], "notes": "why"}
    response = client.patch(f"/api/runs/{run.pk}", changes, "application/json", headers=bearer(ada))
    assert response.json()["name"] == "better"
    run.refresh_from_db()
    assert (run.name, run.tags, run.notes, run.priority) == ("better", ["x"], "why", 0)
    wrong = client.patch(
        f"/api/runs/{run.pk}", {"state": "finished"}, "application/json", headers=bearer(ada)
    )
    assert_problem(wrong, 422)


def test_the_spec_comes_as_launched(client: Client, run: Run, vera: User, bearer: Any) -> None:
    found = client.get(f"/api/runs/{run.pk}/spec", headers=bearer(vera)).json()
    assert found == {"spec": SPEC, "effective": None, "sha256": ""}
