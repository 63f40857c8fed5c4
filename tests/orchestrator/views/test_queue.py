"""The queue's page, and the place of a run on its own page."""

from __future__ import annotations

import pytest

from orchestrator.models import Run
from orchestrator.services import dispatch
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_create
from tests.orchestrator.conftest import SPEC


@pytest.fixture
def waiting(monkeypatch, ada):
    monkeypatch.setattr(dispatch.app, "send_task", lambda *a, **b: None)
    run = run_create(owner=ada, spec=SPEC, name="<b>mine</b>")
    schedule()
    return run


def test_the_page_says_place_reason_and_share(client, ada, waiting):
    client.force_login(ada)
    text = client.get("/queue/").content.decode()
    assert "Waits for a node: none has joined yet." in text
    assert "&lt;b&gt;mine" in text and "<b>mine" not in text
    assert f'action="/runs/{waiting.pk}/place/"' in text
    assert "Waits for a node" in client.get("/queue/rows/").content.decode()


def test_an_empty_queue_says_what_to_do(client, ada):
    client.force_login(ada)
    assert "Nothing waits" in client.get("/queue/").content.decode()


def test_the_runs_page_shows_its_place(client, ada, waiting):
    client.force_login(ada)
    assert "of 1 in" in client.get(f"/runs/{waiting.pk}/").content.decode()
    assert "#1" in client.get("/runs/").content.decode()


def test_its_owner_sets_the_priority_and_whether_it_gives_way(client, ada, bob, vera, waiting):
    url = f"/runs/{waiting.pk}/place/"
    client.force_login(ada)
    answer = client.post(url, {"priority": "4", "way": "1", "preemptible": "on", "back": "/queue/"})
    assert (answer.status_code, answer["Location"]) == (302, "/queue/")
    run = Run.objects.get(pk=waiting.pk)
    assert (run.priority, run.preemptible) == (4, True)
    client.post(url, {"priority": "5"})
    assert Run.objects.get(pk=waiting.pk).preemptible, "a form without the box leaves it"
    answer = client.post(url, {"priority": "high"}, follow=True)
    assert "priority must be a whole number from -1000 to 1000" in answer.content.decode()
    for person in (bob, vera):
        client.force_login(person)
        assert client.post(url, {"priority": "9"}).status_code == 403
    assert Run.objects.get(pk=waiting.pk).priority == 5
