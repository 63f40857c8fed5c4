"""GET /api/queue, and what a run says of its place."""

from __future__ import annotations

import pytest

from orchestrator.models import Run
from orchestrator.services import dispatch
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_create
from tests.orchestrator.conftest import SPEC


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """Nothing reaches a broker."""
    monkeypatch.setattr(dispatch.app, "send_task", lambda *a, **b: None)


@pytest.fixture
def line(ada, bob, db):
    """Ada's run, then bob's."""
    mine = run_create(owner=ada, spec=SPEC, name="mine", preemptible=True)
    theirs = run_create(owner=bob, spec=SPEC, name="theirs")
    schedule()
    return mine, theirs


def test_everybody_sees_who_waits_where_and_why(client, vera, bearer, line):
    found = client.get("/api/queue", headers=bearer(vera, "read")).json()
    assert [(one["place"], one["name"], one["owner"]) for one in found["items"]] == [
        (1, "mine", "ada"),
        (2, "theirs", "bob"),
    ]
    first = found["items"][0]
    assert (first["reason"], first["needs"], first["preemptible"]) == (
        "Waits for a node: none has joined yet.",
        "a free slot",
        True,
    )
    assert (found["count"], found["half_life_hours"]) == (2, 24.0)
    assert [(row["owner"], row["waiting"], row["held"]) for row in found["shares"]] == [
        ("ada", 1, 0),
        ("bob", 1, 0),
    ]


def test_a_priority_changes_while_the_run_waits_and_moves_it(client, bob, bearer, line):
    _, theirs = line
    url = f"/api/runs/{theirs.pk}"
    told = client.patch(
        url, {"priority": 7}, content_type="application/json", headers=bearer(bob)
    ).json()
    assert (told["priority"], told["place"]) == (7, 2)
    schedule()
    shown = client.get(url, headers=bearer(bob)).json()
    assert (shown["place"], shown["preemptible"], shown["state"]) == (1, False, "queued")


def test_only_a_waiting_run_has_a_place(client, vera, bearer, line):
    mine, _ = line
    Run.objects.filter(pk=mine.pk).update(state="running", process="alive", place=1)
    shown = client.get(f"/api/runs/{mine.pk}", headers=bearer(vera, "read")).json()
    assert shown["place"] is None


def test_the_openapi_document_describes_it(client, vera, bearer):
    schema = client.get("/api/openapi.json", headers=bearer(vera, "read")).json()
    assert "fair share" in schema["paths"]["/api/queue"]["get"]["description"]
    assert "place" in schema["components"]["schemas"]["RunOut"]["properties"]
    assert "preemptible" in schema["components"]["schemas"]["RunCreate"]["properties"]
