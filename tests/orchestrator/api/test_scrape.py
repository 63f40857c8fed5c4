"""`/metrics`: in Prometheus' format, for a token and nothing else, and cheap however often it is asked."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError
from django.test import Client
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.api import scrape
from orchestrator.models import Node, Pulse
from orchestrator.services import meters
from orchestrator.services.entries import PushError
from orchestrator.services.tokens import api_token_create
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.telemetry import lines, metrics, push

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Run, User

pytestmark = pytest.mark.django_db

ME = str(os.getpid())
Found = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the database at the first scrape of each test."""
    monkeypatch.setattr(scrape, "_kept", (-scrape.FRESH, None))


@pytest.fixture
def scraped(client: Client, vera: User, bearer: Any) -> Callable[[], Found]:
    """Scrape as a viewer and read the answer with Prometheus' own parser."""
    headers = bearer(vera, "read")

    def ask() -> Found:
        answer = client.get("/metrics", headers=headers)
        assert answer.status_code == 200, answer.content
        assert answer["Content-Type"].startswith("text/plain; version=0.0.4")
        found: Found = {}
        for family in text_string_to_metric_families(answer.content.decode()):
            assert "_created" not in family.name
            assert family.documentation and family.name.startswith("anneal_"), family
            for sample in family.samples:
                assert (sample.name, frozenset(sample.labels.items())) not in found, sample
                found[sample.name, frozenset(sample.labels.items())] = sample.value
        return found

    return ask


def value(found: Found, name: str, **labels: str) -> float:
    return found[name, frozenset(labels.items())]


def test_only_a_token_lets_in(client: Client, vera: User, bearer: Any) -> None:
    token = api_token_create(user=vera, scope="read")
    assert_problem(client.get("/metrics"), 401)
    assert_problem(client.get("/metrics", {"token": token}), 401)
    assert_problem(client.get("/metrics", headers={"Authorization": "Bearer wrong"}), 401)
    assert_problem(client.get("/metrics", headers={"Authorization": f"Basic {token}"}), 401)
    browser = Client()
    browser.force_login(vera)
    assert_problem(browser.get("/metrics"), 401)
    assert client.get("/metrics", headers=bearer(vera, "read")).status_code == 200
    assert client.post("/metrics", headers=bearer(vera, "read")).status_code == 405


def test_ingest_is_counted(run: Run, scraped: Callable[[], Found]) -> None:
    before = scraped()
    push(run, [metrics(1, loss=1, reward=2), metrics(2, loss=1, reward=2)])
    push(run, lines(1, 2))
    push(run, lines(9, 9))
    with pytest.raises(PushError):
        push(run, [{"seq": 3, "time": 0, "type": "dance"}])
    after = scraped()

    def grown(name: str, **labels: str) -> float:
        known = before.get((name, frozenset({**labels, "process": ME}.items())), 0)
        return value(after, name, **labels, process=ME) - known

    assert grown("anneal_ingest_points_total") == 4
    assert grown("anneal_ingest_lines_total", source="trainer") == 2
    outcomes = ("stored", "repeated", "early", "refused")
    assert [grown("anneal_ingest_pushes_total", outcome=word) for word in outcomes] == [1] * 4


def test_the_server_tells_of_itself(run: Run, node: Node, scraped: Callable[[], Found]) -> None:
    push(run, lines(1, 5))
    Pulse.objects.create(name="control", seen=timezone.now() - timedelta(seconds=7))
    now = timezone.now()
    Node.objects.create(name="n2", token_digest="2", joined=now, last_seen=now)
    Node.objects.create(name="n3", token_digest="3", joined=now, last_seen=now - timedelta(hours=1))
    meters.socket_opened("browser")
    try:
        found = scraped()
    finally:
        meters.socket_closed("browser")
    assert value(found, "anneal_database_up") == 1
    assert value(found, "anneal_runs", state="running") == 1
    assert value(found, "anneal_runs", state="failed") == 0
    assert value(found, "anneal_queue_depth") == 0
    assert value(found, "anneal_journal_lines_stored", source="trainer") == 5
    assert [
        value(found, "anneal_nodes", contact=word) for word in ("alive", "silent", "invited")
    ] == [1, 1, 1]
    assert value(found, "anneal_beat_age_seconds", part="control") == pytest.approx(7, abs=3)
    assert value(found, "anneal_open_sockets", kind="browser", process=ME) >= 1
    assert value(found, "anneal_database_bytes") > 1e6
    assert value(found, "anneal_database_connections_max") > 1
    assert sum(n for (name, _), n in found.items() if name == "anneal_database_connections") >= 1
    assert value(found, "anneal_process_resident_bytes", process=ME) > 1e7
    assert value(found, "anneal_process_cpu_seconds_total", process=ME) > 0


def test_the_ack_latency_is_a_histogram(scraped: Callable[[], Found]) -> None:
    before = value(scraped(), "anneal_ingest_ack_seconds_bucket", process=ME, le="0.01")
    meters.ack_timed(0.007)
    after = scraped()
    assert value(after, "anneal_ingest_ack_seconds_bucket", process=ME, le="0.01") == before + 1


def test_the_database_is_asked_once_in_a_few_seconds(
    scraped: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    look = scrape.server_figures
    monkeypatch.setattr(scrape, "server_figures", lambda: asked.append(1) or look())
    for _ in range(5):
        scraped()
    assert len(asked) == 1


def test_a_database_that_is_away_is_said_and_hides_nothing_else(
    scraped: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> Any:
        raise DatabaseError("away")

    monkeypatch.setattr(scrape, "server_figures", away)
    found = scraped()
    assert value(found, "anneal_database_up") == 0
    assert value(found, "anneal_process_resident_bytes", process=ME) > 1e7
    assert not any(name == "anneal_runs" for name, _ in found)


def test_the_backlog_of_compaction_is_told(
    run: Run, scraped: Callable[[], Found], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert value(scraped(), "anneal_compaction_chunks") == 0
    push(run, lines(1, 3))
    push(run, lines(4, 5))
    monkeypatch.setattr(scrape, "_kept", (-scrape.FRESH, None))
    found = scraped()
    assert value(found, "anneal_compaction_chunks") == 2
    assert value(found, "anneal_compaction_points") == 5
