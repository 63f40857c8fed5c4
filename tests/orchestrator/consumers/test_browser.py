"""The browser's socket: snapshot + deltas == new snapshot, whatever gets lost."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.db import connection
from django.test import Client

from orchestrator.asgi import application
from orchestrator.consumers import browser, listener
from orchestrator.models import Node, Run
from orchestrator.selectors.series import cursor_of, series_read
from orchestrator.services import ingest
from orchestrator.services.hints import hint
from orchestrator.services.nodes import node_heartbeat
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import T0, lines, metrics, push, sample

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from orchestrator.models import User

pytestmark = pytest.mark.django_db(transaction=True)

push_async = sync_to_async(push)


class Page:
    """A page that keeps a chart: a snapshot, then every delta."""

    def __init__(self, cookie: str, origin: str = "http://localhost") -> None:
        headers = [(b"origin", origin.encode()), (b"host", b"localhost")]
        if cookie:
            headers.append((b"cookie", cookie.encode()))
        self.line = WebsocketCommunicator(application, "/ws/browser/", headers=headers)
        self.curves: dict[str, dict[int, float | str]] = {}
        self.upto: dict[str, int] = {}
        self.frames: list[dict[str, Any]] = []

    async def open(self) -> None:
        connected, _ = await self.line.connect(timeout=5)
        assert connected

    async def send(self, **frame: Any) -> None:
        await self.line.send_to(text_data=json.dumps(frame))

    async def watch(self, run: Run, *keys: str) -> None:
        self.upto = await sync_to_async(cursor_of)(run)
        found = await sync_to_async(series_read)(run=run, keys=keys, upto=self.upto)
        self.curves = {key: dict(zip(c["x"], c["y"], strict=True)) for key, c in found.items()}
        await self.send(op="watch", topic="run", run=run.pk, keys=keys, after=self.upto)

    async def receive(self, op: str, within: float = 5) -> dict[str, Any]:
        """The next frame with this op; points are drawn on the way."""
        deadline = time.monotonic() + within
        while True:
            text = await self.line.receive_from(timeout=max(0.01, deadline - time.monotonic()))
            frame: dict[str, Any] = json.loads(text)
            self.frames.append(frame)
            if frame["op"] == "points":
                self.draw(frame)
            if frame["op"] == op:
                return frame

    def draw(self, frame: dict[str, Any]) -> None:
        assert frame["after"] == self.upto, "a gap that the page would have to refetch"
        for key, points in frame["points"].items():
            self.curves[key] |= {step: value for step, value, _ in points}
        self.upto = frame["upto"]

    async def until(self, attempt: int, seq: int) -> None:
        while self.upto != {"attempt": attempt, "seq": seq}:
            await self.receive("points")


async def equals_snapshot(page: Page, run: Run) -> bool:
    found = await sync_to_async(series_read)(run=run, keys=list(page.curves))
    return page.curves == {k: dict(zip(c["x"], c["y"], strict=True)) for k, c in found.items()}


def cookie_of(user: User) -> str:
    client = Client()
    client.force_login(user)
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


@pytest.fixture
async def page(run: Run, vera: User) -> AsyncIterator[Page]:
    page = Page(await sync_to_async(cookie_of)(vera))
    await page.open()
    yield page
    await page.line.disconnect()


async def test_snapshot_and_deltas_equal_a_new_snapshot(run: Run, page: Page) -> None:
    await push_async(run, lines(1, 10))
    await page.watch(run, "loss", "reward")
    for first in (11, 14, 20):
        await push_async(
            run, [metrics(n, loss=n, reward="NaN") for n in range(first, 26)][: 25 - first]
        )
        await asyncio.sleep(0.05)
    cursor = (await sync_to_async(cursor_of)(run))["seq"]
    await page.until(1, cursor)
    assert await equals_snapshot(page, run)
    await sync_to_async(attempt_add)(run, 2)
    await push_async(run, [metrics(1, 8, loss="Infinity"), metrics(2, 9, loss=0)], attempt=2)
    await page.until(2, 2)
    assert await equals_snapshot(page, run)


async def test_a_page_of_nodes_hears_when_one_speaks_and_not_more_than_once_a_second(
    page: Page, node: Node
) -> None:
    await page.send(op="watch", topic="nodes")
    await page.receive("nodes")  # what changed before it watched
    begun = time.monotonic()
    for _ in range(20):
        await sync_to_async(node_heartbeat)(node=node, inventory={"cpus": 1}, expect_next_in=15)
    await page.receive("nodes")
    await asyncio.sleep(1.5)
    heard = sum(frame["op"] == "nodes" for frame in page.frames) - 1
    assert 1 <= heard <= (time.monotonic() - begun) + 1
    await page.send(op="unwatch", topic="nodes")
    await page.send(op="ping", at=1)
    await page.receive("pong")
    page.frames.clear()
    await sync_to_async(node_heartbeat)(node=node, inventory={"cpus": 1}, expect_next_in=15)
    assert await page.line.receive_nothing(timeout=1.5)


async def test_the_first_delta_comes_at_once_and_then_four_a_second(run: Run, page: Page) -> None:
    await page.watch(run, "loss")
    await asyncio.sleep(0.6)
    begun = time.time()
    for seq in range(1, 101):
        await push_async(run, [metrics(seq)])
        if time.time() - begun > 1.5:
            break
    await page.until(1, seq)
    took = time.time() - begun
    deltas = [frame["sent"] for frame in page.frames if frame["op"] == "points"]
    assert deltas[0] - begun < 1
    assert 2 <= len(deltas) <= took * 4 + 2
    assert await equals_snapshot(page, run)


async def test_a_lost_hint_is_made_up_for(
    run: Run, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "SWEEP_EVERY", 0.3)
    monkeypatch.setattr(ingest, "hint", lambda *_, **__: None)
    page = Page(await sync_to_async(cookie_of)(vera))
    await page.open()
    await page.watch(run, "loss")
    await page.receive("run")
    await push_async(run, lines(1, 5))
    await page.until(1, 5)
    assert await equals_snapshot(page, run)
    await page.line.disconnect()


async def test_after_a_broken_listen_connection_it_reads_again(
    run: Run, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "SWEEP_EVERY", 600)
    page = Page(await sync_to_async(cookie_of)(vera))
    await page.open()
    await page.watch(run, "loss")
    await push_async(run, lines(1, 1))
    await page.until(1, 1)
    await asyncio.sleep(0.3)

    def cut() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE query LIKE 'LISTEN%%' AND datname = current_database()"
            )
            return int(cursor.fetchone()[0])

    monkeypatch.setattr(listener, "RETRY_FIRST", 0.5)
    assert await sync_to_async(cut)() == 1
    await push_async(run, lines(2, 3))  # nobody listens
    await page.until(1, 3)
    assert await equals_snapshot(page, run)
    await page.line.disconnect()


async def test_late_lines_of_an_old_attempt_are_a_gap(run: Run, page: Page) -> None:
    await push_async(run, lines(1, 2))
    await sync_to_async(attempt_add)(run, 2)
    await push_async(run, [metrics(1, 2)], attempt=2)
    await page.watch(run, "loss")
    await asyncio.sleep(0.3)
    await push_async(run, lines(3, 4))
    assert (await page.receive("gap"))["run"] == run.pk


async def test_a_cursor_from_nowhere_is_a_gap(run: Run, page: Page) -> None:
    await push_async(run, lines(1, 2))
    ahead = {"attempt": 9, "seq": 99}
    await page.send(op="watch", topic="run", run=run.pk, keys=["loss"], after=ahead)
    await page.receive("gap")


async def test_a_watched_run_tells_its_state(run: Run, page: Page) -> None:
    await page.watch(run, "loss")
    assert (await page.receive("run"))["run"]["id"] == run.pk
    await push_async(run, [metrics(1, 42)])
    while (await page.receive("run"))["run"]["step"] != 42:
        pass


async def test_the_list_hears_of_every_run(run: Run, page: Page) -> None:
    await page.send(op="watch", topic="runs")
    await page.send(op="ping", at=1)
    await page.receive("pong")
    await sync_to_async(hint)("run", run=run.pk)
    assert (await page.receive("run"))["run"]["id"] == run.pk
    await page.send(op="unwatch", topic="runs")
    await page.send(op="ping", at=2)
    await page.receive("pong")
    await sync_to_async(hint)("run", run=run.pk)
    assert await page.line.receive_nothing(timeout=0.7)


async def test_the_list_makes_up_for_lost_hints(
    run: Run, vera: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "SWEEP_EVERY", 0.3)
    page = Page(await sync_to_async(cookie_of)(vera))
    await page.open()
    await page.send(op="watch", topic="runs")
    await Run.objects.aupdate(name="renamed in silence")
    while (await page.receive("run"))["run"]["name"] != "renamed in silence":
        pass
    await page.line.disconnect()


async def test_samples_and_log_lines_arrive(run: Run, page: Page) -> None:
    await page.watch(run)
    await page.receive("run")
    await push_async(run, [sample(1, step=7)], source="samples")
    assert (await page.receive("samples"))["step"] == 7
    line = {"seq": 1, "time": T0, "type": "log", "lines": ["<b>hello</b>"]}
    await push_async(run, [line])
    assert [one["text"] for one in (await page.receive("log"))["lines"]] == ["<b>hello</b>"]


async def test_no_log_line_is_lost_when_a_page_watches_again(run: Run, page: Page) -> None:
    def line(seq: int) -> dict[str, Any]:
        return {"seq": seq, "time": T0, "type": "log", "lines": [f"line {seq}"]}

    await push_async(run, [line(1), line(2)])
    await page.watch(run)
    first = (await page.receive("log"))["lines"]
    assert [one["text"] for one in first] == ["line 1", "line 2"]
    await push_async(run, [line(3)])
    await page.watch(run)
    assert [one["text"] for one in (await page.receive("log"))["lines"]] == ["line 3"]
    await page.send(op="unwatch", topic="run", run=run.pk)
    await page.send(op="watch", topic="run", run=run.pk, log_after=first[1]["id"])
    assert [one["text"] for one in (await page.receive("log"))["lines"]] == ["line 3"]


async def test_watching_again_replaces_and_unwatching_ends(run: Run, page: Page) -> None:
    await page.watch(run, "loss")
    await page.watch(run, "reward")
    await page.send(op="ping", at=0)
    await page.receive("pong")
    await push_async(run, [metrics(1, loss=1, reward=2)])
    await page.until(1, 1)
    assert page.curves == {"reward": {1: 2}}
    await page.send(op="unwatch", topic="run", run=run.pk)
    await page.send(op="ping", at=3)
    await page.receive("pong")
    await push_async(run, [metrics(2, reward=3)])
    assert await page.line.receive_nothing(timeout=0.7)


@pytest.mark.parametrize(
    "frame",
    [
        {"op": "watch"},
        {"op": "watch", "topic": "everything"},
        {"op": "watch", "topic": "run", "run": "aaaaaaaaaaaa"},
        {"op": "watch", "topic": "run", "run": {"pk": 1}},
        {"op": "stop"},
    ],
)
async def test_a_bad_frame_is_refused(page: Page, frame: dict[str, Any]) -> None:
    await page.send(**frame)
    assert (await page.receive("refused"))["error"]


@pytest.mark.parametrize(
    "words", [{"keys": "loss"}, {"keys": [1]}, {"after": "x"}, {"after": {"attempt": -1, "seq": 0}}]
)
async def test_a_bad_watch_is_refused(run: Run, page: Page, words: dict[str, Any]) -> None:
    await page.send(**{"op": "watch", "topic": "run", "run": run.pk, **words})
    assert (await page.receive("refused"))["error"]


async def test_strangers_are_refused(run: Run) -> None:
    for cookie in ("", f"{settings.SESSION_COOKIE_NAME}=made-up"):
        page = Page(cookie)
        await page.open()
        assert (await page.receive("refused"))["error"]
        closed = await page.line.receive_output(timeout=5)
        assert (closed["type"], closed["code"]) == ("websocket.close", 4401)


async def test_a_foreign_page_cannot_use_the_session(run: Run, vera: User) -> None:
    page = Page(await sync_to_async(cookie_of)(vera), origin="https://elsewhere.example")
    connected, _ = await page.line.connect()
    assert not connected
