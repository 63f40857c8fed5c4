"""Comparisons by REST: shapes, refusals with field paths, repeats, roles, and whatever else may be sent."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator.models import Comparison, Dataset, Reading, Run
from tests.orchestrator.answered import (
    answers_put,
    checkpoint_add,
    checkpoint_make,
    dataset_make,
    imported,
    runs_end,
)
from tests.orchestrator.odd_values import ODD_JSON, leaves

if TYPE_CHECKING:
    from pathlib import Path

    from django.test import Client

    from orchestrator.models import User

pytestmark = pytest.mark.django_db
ODD = [
    "",
    "\x00",
    "a\x00b",
    "%",
    "-1",
    "0",
    "1e999",
    "NaN",
    "9" * 26,
    "null",
    "é\u202e",
    "x" * 5000,
]


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


@pytest.fixture
def order(ada: User) -> dict[str, Any]:
    """What ada may post."""
    one = checkpoint_make(ada)
    return {
        "checkpoints": [f"checkpoint:{one.pk}", f"checkpoint:{checkpoint_add(one.run, 20).pk}"],
        "prompts": [{"source": dataset_make(ada).pk}],
        "sampling": {"samples": 2, "temperature": 0.7},
        "scorers": [{"type": "exact-match"}],
        "seed": 7,
        "name": "mine",
    }


@pytest.fixture
def send(client: Client, bearer: Any) -> Any:
    def sent(user: User, method: str, path: str, body: Any = None, **headers: str) -> Any:
        words = {} if body is None else {"data": json.dumps(body)}
        return client.generic(
            method, f"/api/comparisons{path}", content_type="application/json",
            headers={**bearer(user), **headers}, **words,
        )  # fmt: skip

    return sent


def test_make_look_answer_read(send: Any, ada: User, vera: User, order: dict[str, Any]) -> None:
    answer = send(ada, "POST", "", order)
    assert answer.status_code == 201, answer.content
    made = answer.json()
    path = f"/{made['id']}"
    assert answer["Location"] == f"/api/comparisons{path}"
    assert (made["name"], made["state"], made["items"], made["seed"]) == ("mine", "waiting", 12, 7)
    assert made["answers"] == {"wanted": 48, "there": 0, "failed": 0}
    assert [arm["name"] for arm in made["arms"]] == ["r, step 10", "r, step 20"]
    assert all(len(arm["runs"]) == 1 for arm in made["arms"])
    assert made["scorers"][0]["label"] == "exact-match"
    assert "digest" not in made["scorers"][0]["knobs"]

    comparison = Comparison.objects.get()
    for arm, value in zip(comparison.arms.all(), (0.0, 1.0), strict=True):
        answers_put(arm, lambda item, index, value=value: value, samples=2)
    runs_end(comparison)
    assert send(vera, "GET", path).json()["state"] == "ready"
    assert send(vera, "GET", "?q=mine").json()["count"] == 1
    key = made["arms"][0]["checkpoint"]
    assert send(vera, "GET", f"?checkpoint={key}").json()["items"][0]["id"] == made["id"]

    pairs = send(vera, "GET", f"{path}/pairs?show=b-wins&per_page=3").json()
    assert pairs["count"] == 12 and len(pairs["items"]) == 3
    arms = pairs["items"][0]["arms"]
    assert arms[1]["answers"][0]["scores"] == {"exact-match": {"value": 1.0, "problem": ""}}
    assert arms[1]["answers"][0]["text"] == pairs["items"][0]["reference"]
    found = send(vera, "GET", f"{path}/evidence").json()
    assert found["findings"][0]["verdict"]["word"] == "better"
    lost = send(vera, "GET", f"{path}/regressions?a=r, step 20&b=r, step 10").json()
    assert lost["count"] == 12 and lost["items"][0]["certainty"] > 0.9


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"checkpoints": ["m/a"]}, "checkpoints"),
        ({"checkpoints": ["m/a", "checkpoint:aaaaaaaaaaaa"]}, "checkpoints.1"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [{"source": "no/where"}]}, "prompts.0.source"),
        ({"scorers": []}, "scorers"),
        ({"scorers": [{"type": "exact-match", "weight": "much"}]}, "scorers.0.weight"),
        ({"sampling": {"samples": 0}}, "sampling.samples"),
        ({"sampling": {"heat": 1}}, "sampling.heat"),
        ({"seed": -1}, "seed"),
        ({"more": 1}, "more"),
    ],
)
def test_a_faulty_order_names_its_field(
    send: Any, ada: User, order: dict[str, Any], change: dict[str, Any], path: str
) -> None:
    answer = send(ada, "POST", "", order | change)
    assert answer.status_code == 422
    assert answer["Content-Type"] == "application/problem+json"
    assert path in {error["path"] for error in answer.json()["errors"]}, answer.json()
    assert not Comparison.objects.exists()


def test_a_key_makes_it_once(send: Any, ada: User, order: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k"}
    first, again = (send(ada, "POST", "", order, **key) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"] and Comparison.objects.count() == 1
    other = send(ada, "POST", "", order | {"seed": 8}, **key)
    assert other.status_code == 409 and Comparison.objects.count() == 1
    assert Run.objects.filter(kind="evaluate").count() == 2


def test_a_refused_order_uses_no_key_up(send: Any, ada: User, order: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k"}
    bad = send(ada, "POST", "", order | {"prompts": [{"source": "no/where"}]}, **key)
    assert bad.status_code == 422
    assert send(ada, "POST", "", order, **key).status_code == 201


def test_steering(send: Any, ada: User, bob: User, order: dict[str, Any]) -> None:
    path = f"/{send(ada, 'POST', '', order).json()['id']}"
    for method, verb, body in (
        ("PATCH", "", {"name": "x"}), ("POST", "/stop", None), ("POST", "/resume", None),
        ("POST", "/read", None), ("DELETE", "", None),
    ):  # fmt: skip
        assert send(bob, method, f"{path}{verb}", body).status_code == 403, verb
    assert send(ada, "PATCH", path, {"name": "new", "note": "why"}).json()["note"] == "why"
    assert send(ada, "PATCH", path, {"name": ""}).status_code == 422
    assert send(ada, "POST", f"{path}/stop").json()["state"] == "stopped"
    assert send(ada, "POST", f"{path}/stop").status_code == 409
    assert send(ada, "POST", f"{path}/resume").json()["state"] == "waiting"
    refused = send(ada, "POST", f"{path}/read")
    assert (
        refused.status_code == 409 and "vocabularies are not known yet" in refused.json()["detail"]
    )
    assert send(ada, "DELETE", path).status_code == 204
    assert send(ada, "GET", path).status_code == 404


def test_models_read_each_other_where_their_tokens_are_the_same(
    send: Any, ada: User, order: dict[str, Any]
) -> None:
    path = f"/{send(ada, 'POST', '', order).json()['id']}"
    comparison = Comparison.objects.get()
    for arm in comparison.arms.all():
        answers_put(arm, lambda item, index: 1.0, words=f"{arm.position}", samples=2)
        arm.facts["vocabulary"] = "v"
        arm.save()
    runs_end(comparison)
    assert send(ada, "POST", f"{path}/read").status_code == 200
    runs = Run.objects.filter(arm_runs__purpose="readings")
    assert runs.count() == 2
    assert {run.spec["evaluation"]["readings"] for run in runs} == {True}
    send(ada, "POST", f"{path}/read")
    assert runs.count() == 2, "asked twice, it is read once"


def test_vocabularies_that_differ_are_told(send: Any, ada: User, order: dict[str, Any]) -> None:
    path = f"/{send(ada, 'POST', '', order).json()['id']}"
    for arm in Comparison.objects.get().arms.all():
        arm.facts["vocabulary"] = f"v{arm.position}"
        arm.save()
    refused = send(ada, "POST", f"{path}/read")
    assert refused.status_code == 409 and "different vocabularies" in refused.json()["detail"]
    assert not Reading.objects.exists()


def test_import_by_upload(client: Client, bearer: Any, ada: User, vera: User) -> None:
    row = {"question": "q", "a": {"is_correct": True}, "b": {"is_correct": False}}
    content = json.dumps(row).encode()

    def upload(user: User, content: bytes, name: str = "x.jsonl") -> Any:
        file = {"file": SimpleUploadedFile(name, content), "name": "outside"}
        return client.post("/api/comparisons/import", file, headers=bearer(user))

    assert upload(vera, content).status_code == 403
    made = upload(ada, content)
    assert made.status_code == 201 and made.json()["state"] == "ready" and made.json()["imported"]
    bad = upload(ada, b'{"question": 1}')
    assert bad.status_code == 422 and bad.json()["errors"][0]["path"] == "file"
    assert client.post("/api/comparisons/import", headers=bearer(ada)).status_code == 422


def test_regressions_become_an_evaluation_set(send: Any, ada: User) -> None:
    mark = [{"is_correct": True}, {"is_correct": False}]
    rows = [
        {"question": f"q{n}", "ground_truth": str(n), "a": mark[0], "b": mark[1]} for n in range(5)
    ]
    path = f"/{imported(ada, rows).pk}/evaluation-set"
    made = send(ada, "POST", path, {"name": "lost", "items": [2, 4]})
    assert made.status_code == 201 and made.json()["rows"] == 2
    more = send(ada, "POST", path, {"dataset": made.json()["id"], "items": [4, 5]})
    assert more.json()["rows"] == 3 and more.json()["name"] == "lost"
    assert Dataset.objects.count() == 2, "what runs have used stays as it was"
    for body, words in (
        ({"items": [9], "name": "x"}, "there is no prompt 9"),
        ({"items": [], "name": "x"}, "choose at least one"),
        ({"items": [1]}, "give the new dataset a name"),
        ({"items": [1], "dataset": "aaaaaaaaaaaa"}, "there is no such dataset"),
        ({"items": [2], "dataset": made.json()["id"]}, "in the dataset already"),
    ):
        refused = send(ada, "POST", path, body)
        assert refused.status_code == 422 and words in refused.json()["detail"], body


@pytest.mark.parametrize("path", ["", "/ID", "/ID/pairs", "/ID/regressions", "/ID/evidence"])
def test_odd_questions_get_an_answer(send: Any, ada: User, vera: User, path: str) -> None:
    mark = {"is_correct": True}
    path = path.replace("ID", imported(ada, [{"question": "q", "a": mark, "b": mark}]).pk)
    names = ("q", "checkpoint", "page", "per_page", "scorer", "a", "b", "show", "baseline", "unit")
    for name in names:
        for value in ODD:
            answer = send(vera, "GET", f"{path}?{name}={quote(value)}")
            assert answer.status_code in (200, 422), (name, value, answer.content)
    assert send(vera, "GET", "/nothing%00here").status_code in (404, 422)


def test_odd_orders_are_refused_and_break_nothing(
    send: Any, ada: User, order: dict[str, Any]
) -> None:
    """Every leaf of a good order replaced by what nobody expects there."""
    refused = made = 0
    for leaf in leaves(order):
        for odd in ODD_JSON:
            body = copy.deepcopy(order)
            target: Any = body
            for part in leaf[:-1]:
                target = target[part]
            target[leaf[-1]] = odd
            answer = send(ada, "POST", "", body)
            assert answer.status_code in (201, 422), (leaf, odd, answer.content)
            if answer.status_code == 422:
                refused += 1
                assert answer.json().get("errors"), (leaf, odd, answer.content)
            else:
                made += 1
    assert refused > 50 and made, "neither all nor nothing may pass"


def test_the_document_describes_all_of_it(client: Client, vera: User, bearer: Any) -> None:
    schema = client.get("/api/openapi.json", headers=bearer(vera, "read")).json()
    paths = {path for path in schema["paths"] if path.startswith("/api/comparisons")}
    one = "/api/comparisons/{comparison_id}"
    tails = ("pairs", "regressions", "evidence", "stop", "resume", "read", "evaluation-set")
    reports = {f"{one}/report.{ending}" for ending in ("html", "json", "csv")}
    wanted = {"/api/comparisons", "/api/comparisons/import", one, *(f"{one}/{t}" for t in tails)}
    assert wanted | reports <= paths
    create = schema["components"]["schemas"]["ComparisonCreate"]["properties"]
    assert set(create) == {
        "checkpoints",
        "prompts",
        "sampling",
        "scorers",
        "seed",
        "name",
        "promotion",
        "judges",
    }
