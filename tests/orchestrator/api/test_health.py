"""Health: 503 until database, broker and nodes work, and no details for strangers."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone

from orchestrator.artifacts.store import Store
from orchestrator.models import Checkpoint, Node, Pulse
from orchestrator.selectors.artifacts import state_path
from orchestrator.services.pulse import pulse_touch
from orchestrator.services.store_keeper import look

if TYPE_CHECKING:
    from django.test import Client

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db


@pytest.fixture
def healthy(node: Node) -> None:
    pulse_touch("control")
    Node.objects.update(last_seen=timezone.now())


def test_it_is_healthy_when_all_work(client: Client, healthy: None) -> None:
    response = client.get("/api/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_people_signed_in_see_the_checks(
    client: Client, healthy: None, vera: User, bearer: Any
) -> None:
    body = client.get("/api/health", headers=bearer(vera, "read")).json()
    assert body["checks"] == {"database": "ok", "broker": "ok", "nodes": "ok"}
    assert body["version"]


def test_a_silent_control_worker_is_noticed(client: Client, healthy: None, vera: User) -> None:
    Pulse.objects.update(seen=timezone.now() - timedelta(minutes=1))
    assert client.get("/api/health").json() == {"status": "unavailable"}
    client.force_login(vera)
    response = client.get("/api/health")
    assert response.status_code == 503
    assert "control worker" in response.json()["checks"]["broker"]


def test_it_waits_for_a_node(client: Client, healthy: None) -> None:
    Node.objects.update(last_seen=timezone.now() - timedelta(hours=1))
    assert client.get("/api/health").status_code == 503
    Node.objects.all().delete()
    assert client.get("/api/health").status_code == 503


def test_it_answers_without_a_database(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(connection, "cursor", away)
    response = client.get("/api/health")
    assert (response.status_code, response.json()) == (503, {"status": "unavailable"})


def test_a_bad_token_is_a_stranger(client: Client, healthy: None) -> None:
    response = client.get("/api/health", headers={"Authorization": "Bearer wrong"})
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_store_that_is_away_is_said_and_does_not_make_the_server_ill(
    client: Client, healthy: None, run: Run, vera: User, bearer: Any, settings: Any
) -> None:
    settings.ANNEAL_ARTIFACTS_URL = "file:///no/such/folder"
    Checkpoint.objects.create(run=run, attempt=1, step=5, path="p", sha256="a" * 64)
    look(Store(settings.ANNEAL_ARTIFACTS_URL))
    response = client.get("/api/health", headers=bearer(vera, "read"))
    assert response.status_code == 200
    found = response.json()["artifacts"]
    assert (found["url"], found["waiting"]) == ("file:///no/such/folder", 1)
    assert "ANNEAL_ARTIFACTS_URL" in found["state"] and "mount the folder" in found["state"]
    assert client.get("/api/health").json() == {"status": "ok"}, "strangers see no details"
    state_path().unlink()
