"""Retention rules by REST: looked at by everybody, applied by whoever may delete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.models import Checkpoint, Run
from tests.orchestrator.api.test_access import assert_problem

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import User


@pytest.fixture
def ask(client: Client, bearer: Any) -> Any:
    def send(method: str, path: str, user: User, body: Any = None, scope: str = "admin") -> Any:
        return client.generic(
            method, f"/api{path}", json.dumps(body or {}), "application/json",
            headers=bearer(user, scope),
        )  # fmt: skip

    return send


@pytest.fixture
def saved(run: Run) -> Run:
    Run.objects.update(state="finished", process="exited", cause="finished")
    for step in (10, 20, 30):
        Checkpoint.objects.create(
            run=run, attempt=1, step=step, path=f"checkpoints/step-{step}", sha256=f"{step:064d}",
            bytes=100,
        )  # fmt: skip
    return run


def left() -> list[int]:
    kept = Checkpoint.objects.filter(deleted=None)
    return sorted(kept.values_list("step", flat=True))


def test_what_was_simulated_is_applied(ask: Any, saved: Run, ada: User, vera: User) -> None:
    query = "?keep_last=1&keep_best=0"
    for path in ("/retention", f"/runs/{saved.pk}/retention"):
        found = ask("GET", f"{path}{query}", vera, scope="read").json()
        assert (found["deletes"], found["frees"], found["keeps"]) == (2, 200, 1)
        assert [(one["step"], one["goes"]) for one in found["items"]][2] == (30, False)
    assert left() == [10, 20, 30]
    body = {"rule": {"keep_last": 1, "keep_best": 0}, "expect": "another"}
    assert (
        "Look again"
        in assert_problem(ask("POST", f"/runs/{saved.pk}/retention", ada, body), 409)["detail"]
    )
    body["expect"] = found["digest"]
    done = ask("POST", f"/runs/{saved.pk}/retention", ada, body).json()
    assert (len(done["deleted"]), done["bytes"]) == (2, 200) and left() == [30]


def test_who_may_not_delete_may_look_only(
    ask: Any, saved: Run, ada: User, bob: User, vera: User, alma: User
) -> None:
    body = {"rule": {"keep_last": 1}}
    for user, scope, path in (
        (bob, "admin", f"/runs/{saved.pk}/retention"),
        (vera, "admin", f"/runs/{saved.pk}/retention"),
        (ada, "read", f"/runs/{saved.pk}/retention"),
        (ada, "admin", "/retention"),
        (alma, "operate", "/retention"),
    ):
        assert_problem(ask("POST", path, user, body, scope=scope), 403)
    body_without = assert_problem(ask("POST", "/retention", alma, {}), 422)
    assert body_without["errors"][0]["path"] == "rule"
    assert left() == [10, 20, 30]
    ask("POST", "/retention", alma, body)
    assert left() == [30]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?keep_last=0&keep_best=0", "would keep nothing"),
        ("?keep_last=-1", "greater than or equal to 0"),
        ("?keep_last=many", "valid integer"),
        ("?older_than_days=inf", "finite"),
    ],
)
def test_a_rule_that_is_none_says_why(
    ask: Any, saved: Run, vera: User, query: str, says: str
) -> None:
    body = assert_problem(ask("GET", f"/retention{query}", vera), 422)
    assert says in json.dumps(body)
    assert_problem(ask("GET", "/runs/nothing/retention", vera), 404)
