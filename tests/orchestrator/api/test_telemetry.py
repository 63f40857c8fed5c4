"""Curves, samples, events and log by REST."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.api.interface import api
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.telemetry import T0, lines, metrics, push, sample

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def get(client: Client, run: Run, vera: User, bearer: Any) -> Any:
    headers = bearer(vera, "read")

    def read(path: str, **query: Any) -> Any:
        return client.get(f"/api/runs/{run.pk}/{path}", query, headers=headers)

    return read


def test_curves_are_keyed_by_metric(run: Run, get: Any) -> None:
    push(run, [metrics(1, loss=2.5, reward="NaN"), metrics(2, loss="Infinity", reward=1)])
    response = get("series", keys="loss,reward,nothing")
    found = response.json()
    assert found["loss"]["y"] == [2.5, "Infinity"]
    assert (found["reward"]["y"], found["reward"]["nan_x"]) == (["NaN", 1], [1])
    assert (found["nothing"]["x"], found["nothing"]["total"]) == ([], 0)
    assert json.loads(response["X-Anneal-Cursor"]) == {"attempt": 1, "seq": 2}


def test_without_keys_all_metrics_come(run: Run, get: Any) -> None:
    push(run, [metrics(1, b=1, a=2)])
    assert list(get("series").json()) == ["a", "b"]
    assert get("keys").json() == ["a", "b"]


def test_a_name_with_a_comma_is_asked_for_by_a_parameter_of_its_own(run: Run, get: Any) -> None:
    push(run, [metrics(1, loss=1.0, b=3.0, **{"eval/recall@1,5": 2.0})])
    found = get("series", key=["eval/recall@1,5", "loss"]).json()
    assert [found[key]["y"] for key in ("eval/recall@1,5", "loss")] == [[2.0], [1.0]]
    assert list(get("series", key="loss", keys="b,loss").json()) == ["loss", "b"]
    assert get("lineage", key="eval/recall@1,5").json() == []
    many = [f"m{number}" for number in range(501)]
    assert "500 is the most" in assert_problem(get("series", key=many), 422)["detail"]


def test_curves_are_cut_and_thinned(run: Run, get: Any) -> None:
    push(run, [metrics(n) for n in range(1, 501)])
    found = get("series", keys="loss", points=60)
    assert len(found.json()["loss"]["x"]) <= 60
    assert (found.json()["loss"]["total"], found.json()["loss"]["reduced"]) == (500, True)
    assert get("series", **{"keys": "loss", "from": 5, "to": 6}).json()["loss"]["x"] == [5, 6]
    assert get("series", keys="loss", x="time").json()["loss"]["x"][0] == T0 + 1


@pytest.mark.parametrize(
    ("query", "path"),
    [({"points": 1}, "points"), ({"attempt": -1}, "attempt"), ({"from": "start"}, "from")],
)
def test_a_faulty_question_is_refused(get: Any, query: dict[str, Any], path: str) -> None:
    body = assert_problem(get("series", **query), 422)
    assert [error["path"] for error in body["errors"]] == [path]


def test_an_unknown_axis_is_refused(get: Any) -> None:
    assert "mood" in assert_problem(get("series", keys="loss", x="mood"), 422)["detail"]


def test_samples_are_filtered(run: Run, get: Any) -> None:
    rows = [
        sample(1, step=1, group=0, reward=0.0, completion="five"),
        sample(2, step=2, group=0, reward=1.0, prompt_id="p2"),
        sample(3, step=2, group=1, reward="NaN", completion="100% sure_"),
    ]
    push(run, rows, source="samples")

    def seqs(**query: Any) -> list[int]:
        return [item["seq"] for item in get("samples", **query).json()["items"]]

    assert seqs() == [2, 3, 1]
    assert seqs(step=2) == [2, 3]
    assert seqs(prompt="p2") == [2]
    assert seqs(group=1) == [3]
    assert seqs(max_reward=0.5) == [1]
    assert 2 in seqs(min_reward=0.5)
    assert seqs(text="FIVE") == [1]
    assert seqs(text="100%") == [3]
    assert seqs(text="_") == [3]
    assert get("samples", page=2, per_page=2).json()["count"] == 3
    assert seqs(page=2, per_page=2) == [1]


def test_numbers_of_samples_travel_as_strings_where_json_has_none(run: Run, get: Any) -> None:
    push(run, [sample(1, reward="NaN", advantage="-Infinity")], source="samples")
    response = get("samples")
    assert b"NaN," not in response.content.replace(b'"NaN"', b"")
    item = response.json()["items"][0]
    assert (item["reward"], item["advantage"]) == ("NaN", "-Infinity")
    assert (item["token_ids"], item["logps"]) == ([5, 6], [-0.5, -0.25])


def test_events_come_newest_first(run: Run, get: Any) -> None:
    status = {"time": T0, "type": "status", "state": "running", "message": "go"}
    alert = {"time": T0, "type": "alert", "level": "warning", "code": "x", "message": "careful"}
    push(run, [{"seq": 1, **status}, {"seq": 2, **alert}])
    found = get("events").json()
    assert found["items"][0]["type"] == "alert"
    assert found["items"][0]["data"]["message"] == "careful"
    assert get("events", type="alert").json()["count"] == 1


def test_the_log_pages_backwards(run: Run, get: Any) -> None:
    line = {"seq": 1, "time": T0, "type": "log", "lines": [f"line {n}" for n in range(5)]}
    push(run, [line])
    tail = get("log", lines=2).json()["items"]
    assert [item["text"] for item in tail] == ["line 3", "line 4"]
    before = get("log", lines=2, before=tail[0]["id"]).json()["items"]
    assert [item["text"] for item in before] == ["line 1", "line 2"]


def test_viewers_read_the_truth(run: Run, get: Any) -> None:
    push(run, lines(1, 3))
    answer = get("truth")
    found = answer.json()
    assert answer.status_code == 200
    assert [(s["source"], s["stored"]) for s in found["streams"]] == [
        ("trainer", 3),
        ("samples", 0),
        ("host", 0),
    ]
    assert found["state"]["shown"] == "running" and found["state"]["why"].startswith("Running: ")
    assert_problem(get("truth", attempt=9), 422)


def test_openapi_says_how_each_figure_of_the_truth_is_measured() -> None:
    shapes = api.get_openapi_schema()["components"]["schemas"]
    for name in ("StateFacts", "Heartbeat", "Clock", "StreamTruth"):
        for field, shape in shapes[name]["properties"].items():
            assert shape.get("description") or field in ("source", "name"), (name, field)
