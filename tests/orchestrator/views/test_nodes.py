"""The nodes page."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone

from orchestrator.artifacts.store import Store
from orchestrator.models import Checkpoint, Node, NodeReading, Process, Run, State
from orchestrator.selectors.artifacts import state_path
from orchestrator.services.nodes import node_of_token
from orchestrator.services.store_keeper import state_write

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from orchestrator.models import User

GIB = 2**30
HAS = {
    "cpus": 8,
    "cpu_load": 12.0,
    "memory": 64 * GIB,
    "memory_used": 16 * GIB,
    "disk": 100 * GIB,
    "disk_free": 5 * GIB,
    "engines": {"native": "2.13.0"},
    "gpus": [
        {"index": 0, "name": "<b>H200", "memory": 141 * GIB, "used": 70 * GIB,
         "utilisation": 87, "power": 512.5, "power_limit": 700, "temperature": 64},
    ],
    "driver": "570.86.15",
}  # fmt: skip


@pytest.fixture
def speaking(node: Node) -> Node:
    now = timezone.now()
    Node.objects.update(joined=now, last_seen=now, inventory=HAS, labels=["lab-2"], slots=2)
    node.refresh_from_db()
    return node


def text_of(browser: Client) -> str:
    return browser.get("/nodes/").content.decode()


def test_a_card_says_what_runs_and_how_loaded_it_is(
    vera: User, speaking: Node, run: Run, browser_of: Callable[[User], Client]
) -> None:
    page = text_of(browser_of(vera))
    for words in ("n1", "ready", "lab-2", f'href="/runs/{run.pk}/"', "1 of 2 taken", "1 free",
                  "70.0 GiB", "of 141 GiB", "87", "512", "16.0 GiB", "95.0 GiB", "native"):  # fmt: skip
        assert words in page, words
    assert "<b>H200" not in page and "&lt;b&gt;H200" in page


def test_a_node_that_broke_its_promise_is_not_called_ready(
    vera: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    Node.objects.update(last_seen=timezone.now() - timedelta(minutes=5))
    page = text_of(browser_of(vera))
    assert "0 of 1 ready" in page and "Silent: last heard" in page


def test_the_cards_alone_answer_the_page_that_keeps_itself_fresh(
    vera: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    part = browser_of(vera).get("/nodes/cards/").content.decode()
    assert "<html" not in part and "n1" in part


def test_an_admin_drains_and_undrains(
    alma: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(alma)
    browser.post(f"/nodes/{speaking.pk}/do/drain/")
    assert Node.objects.get().drained
    assert "Undrain" in text_of(browser)
    browser.post(f"/nodes/{speaking.pk}/do/undrain/")
    assert not Node.objects.get().drained


def test_an_admin_cordons_revokes_renews_and_removes(
    alma: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(alma)

    def do(verb: str) -> str:
        return browser.post(f"/nodes/{speaking.pk}/do/{verb}/", follow=True).content.decode()

    assert "takes no new runs" in do("cordon") and Node.objects.get().cordoned
    assert "Uncordon" in text_of(browser)
    assert "takes new runs again" in do("uncordon")
    page = do("revoke")
    assert node_of_token("node-token") is None
    assert "revoked" in page and "Its token was taken back" in page
    page = do("renew")
    shown = re.search(r"--token (anneal_node_[\w-]+)", page)
    assert shown and node_of_token(shown[1]) == speaking
    assert shown[1] not in text_of(browser)
    assert "is removed; its runs keep their history" in do("remove")
    assert "No machine has joined" in text_of(browser)


def test_a_node_on_which_something_runs_is_not_removed(
    alma: User, speaking: Node, run: Run, browser_of: Callable[[User], Client]
) -> None:
    page = browser_of(alma).post(f"/nodes/{speaking.pk}/do/remove/", follow=True)
    assert "n1 still runs tiny" in page.content.decode()
    assert Node.objects.get().removed is None


def test_gpus_say_what_runs_on_them_how_hot_they_are_and_by_which_driver(
    vera: User, speaking: Node, run: Run, browser_of: Callable[[User], Client]
) -> None:
    Node.objects.update(inventory=HAS | {"gpus_of": {run.pk: [0]}})
    page = text_of(browser_of(vera))
    for words in ("64 °C", "of 700", "GPU 0</span>", "570.86.15"):
        assert words in page, words
    assert page.count(f'href="/runs/{run.pk}/"') == 2  # in its slot, and on its GPU
    Node.objects.update(inventory={"gpus": [], "gpu_problem": "NVIDIA's driver does not answer: x"})
    assert "driver does not answer: x" in text_of(browser_of(vera))


def test_the_last_hour_is_drawn_and_its_absence_is_said(
    vera: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(vera)
    assert "Nothing was heard of it in the last hour." in text_of(browser)
    for minutes in (3, 2, 1):
        time = timezone.now() - timedelta(minutes=minutes)
        NodeReading.objects.create(node=speaking, time=time, cpu=10.0 * minutes, gpu=50.0)
    page = text_of(browser)
    assert "CPU over the last hour, 3 of 60 minutes heard, peak 30" in page
    assert "GPU over the last hour" in page and "Nothing was heard" not in page


@pytest.mark.parametrize("who", ["vera", "ada"])
def test_nobody_else_changes_a_node(
    who: str, vera: User, ada: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of({"vera": vera, "ada": ada}[who])
    for path in (
        f"/nodes/{speaking.pk}/do/drain/",
        f"/nodes/{speaking.pk}/do/cordon/",
        f"/nodes/{speaking.pk}/do/revoke/",
        f"/nodes/{speaking.pk}/do/renew/",
        f"/nodes/{speaking.pk}/do/remove/",
        "/nodes/invite/",
    ):
        assert browser.post(path, {"name": "gpu-1", "slots": "1"}).status_code == 403
    found = Node.objects.get()
    assert not found.drained and not found.cordoned and found.revoked is None
    assert "Drain</button>" not in text_of(browser)


def test_looking_changes_nothing(
    alma: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    assert browser_of(alma).get(f"/nodes/{speaking.pk}/do/drain/").status_code == 405
    assert not Node.objects.get().drained


def test_an_invitation_shows_a_token_that_works_once_and_says_how_to_join(
    alma: User, browser_of: Callable[[User], Client]
) -> None:
    browser = browser_of(alma)
    fields = {"name": "gpu-1", "slots": "4", "labels": "h200 lab-2"}
    page = browser.post("/nodes/invite/", fields).content.decode()
    shown = re.search(r"node --server http://testserver --token (anneal_node_[\w-]+)", page)
    assert shown
    node = node_of_token(shown[1])
    assert node is not None
    assert (node.name, node.slots, node.labels) == ("gpu-1", 4, ["h200", "lab-2"])
    assert shown[1] not in text_of(browser)


def test_a_bad_invitation_keeps_what_was_typed(
    alma: User, node: Node, browser_of: Callable[[User], Client]
) -> None:
    for fields, words in (
        ({"name": "n1", "slots": "1"}, "exists already"),
        ({"name": "gpu-7", "slots": "many"}, "whole number from 1"),
        ({"name": "GPU 7", "slots": "1"}, "lower-case"),
    ):
        answer = browser_of(alma).post("/nodes/invite/", fields)
        page = answer.content.decode()
        assert answer.status_code == 422 and words in page
        assert f'value="{fields["name"]}"' in page
    assert Node.objects.count() == 1


def test_without_a_machine_it_says_how_to_add_one(
    vera: User, browser_of: Callable[[User], Client]
) -> None:
    page = text_of(browser_of(vera))
    assert "No machine has joined" in page
    assert "manage.py node --server http://testserver --token" in page


def test_waiting_runs_are_counted(
    vera: User, speaking: Node, run: Run, browser_of: Callable[[User], Client]
) -> None:
    Run.objects.update(state=State.QUEUED, process=Process.NONE)
    assert "1 run waits" in text_of(browser_of(vera))


def test_what_a_node_reports_may_be_anything(
    vera: User, speaking: Node, browser_of: Callable[[User], Client]
) -> None:
    for has in (
        {},
        {"gpus": [3, {}], "gpus_of": [1], "memory": "x", "methods": {"a/b": "c"}, "engines": []},
    ):
        Node.objects.update(inventory=has)
        assert browser_of(vera).get("/nodes/").status_code == 200


def test_the_admin_turns_people_away_instead_of_in_circles(
    vera: User, client: Client, browser_of: Callable[[User], Client]
) -> None:
    answer = browser_of(vera).get("/admin/", follow=True)
    assert answer.status_code == 403
    assert client.get("/admin/", follow=True).redirect_chain[-1][0] == "/login/?next=%2Fadmin%2F"


def test_the_admin_keeps_our_tokens_and_leads_back(
    alma: User, browser_of: Callable[[User], Client]
) -> None:
    type(alma).objects.update(is_staff=True, is_superuser=True)
    page = browser_of(alma).get("/admin/").content.decode()
    for words in ("css/tokens.css", 'href="/runs/"', 'action="/logout/"', "theme-system"):
        assert words in page


def test_the_store_of_checkpoints_is_told_of_where_there_is_one(
    vera: User, run: Run, browser_of: Callable[[User], Client], settings: Any
) -> None:
    browser = browser_of(vera)
    assert "artifact-store" not in text_of(browser)
    settings.ANNEAL_ARTIFACTS_URL = "s3://<b>ucket/x"
    Checkpoint.objects.create(run=run, attempt=1, step=5, path="p", sha256="a" * 64)
    page = text_of(browser)
    assert "s3://&lt;b&gt;ucket/x</code> now. The control worker has not looked at it yet." in page
    assert "1 waits to be put there, kept where it lies until then." in page
    state_write(Store("s3://<b>ucket/x"), "ok")
    Checkpoint.objects.update(stored="a" * 64)
    page = text_of(browser)
    assert "which can be reached. All that are kept are there." in page
    state_path().unlink()
