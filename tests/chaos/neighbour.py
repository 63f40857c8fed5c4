"""A node and a reader of pages that go on while somebody attacks: what they wait for, and what it costs."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.chaos.flooder import push
from tests.chaos.stored import stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from tests.chaos.stack import Stack

MIB = 1 << 20
HEADROOM = 64 * MIB
"""How much the web process may grow under any of these attacks."""
LATE = 2.0
"""Seconds: the longest wait of the neighbour for an answer while somebody attacks, on a busy machine."""


def dial(stack: Stack, token: str) -> Any:
    return connect(
        f"ws://127.0.0.1:{stack.port}/ws/node/",
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        max_size=4 * MIB,
    )


class Watch:
    """The neighbour's waits and the web process's memory while somebody attacks."""

    def __init__(self, stack: Stack, run: dict[str, Any]) -> None:
        self.stack = stack
        self.run = run
        self.web = psutil.Process(stack.notes["parts"]["web"][0])
        self.before = self.most = self.web.memory_info().rss
        self.waits: list[float] = []
        self.asked: list[float] = []

    async def push_on(self) -> None:
        """One line after the other, each with its answer, as long as the attack lasts."""
        async with dial(self.stack, self.run["tokens"][0]) as line:
            assert json.loads(await line.recv())["op"] == "hello"
            while True:
                begun = time.monotonic()
                await line.send(push(len(self.waits) + 1))
                ack = json.loads(await line.recv())
                self.waits.append(time.monotonic() - begun)
                assert ack["cursor"] == len(self.waits), ack
                self.most = max(self.most, self.web.memory_info().rss)
                await asyncio.sleep(0.02)

    async def ask_on(self) -> None:
        """A page's question now and then."""
        while True:
            begun = time.monotonic()
            status, _ = await asyncio.to_thread(self.stack.ask, "GET", f"/runs/{self.run['id']}")
            assert status == 200
            self.asked.append(time.monotonic() - begun)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def unharmed(stack: Stack, run: dict[str, Any], name: str) -> AsyncIterator[None]:
    """Assert that the neighbour keeps its pace and its data, and the web part its memory."""
    watch = Watch(stack, run)
    busy = {asyncio.create_task(watch.push_on()), asyncio.create_task(watch.ask_on())}
    await asyncio.sleep(1.0)
    quiet, asked = len(watch.waits), len(watch.asked)
    before = watch.most = watch.web.memory_info().rss
    yield
    await asyncio.sleep(0.3)
    for task in busy:
        if task.done():
            task.result()
        task.cancel()
    await asyncio.gather(*busy, return_exceptions=True)
    during = watch.waits[quiet:]
    print(
        f"\n{name}: neighbour's ack p50 {statistics.median(watch.waits[:quiet]) * 1e3:.0f} ms before,"
        f" {statistics.median(during) * 1e3:.0f} ms p50 and {max(during) * 1e3:.0f} ms most during"
        f" ({len(during)} pushes), REST {max(watch.asked[asked:], default=0) * 1e3:.0f} ms most;"
        f" web {before / MIB:.0f} → {watch.most / MIB:.0f} MiB at most"
    )
    assert max(during + watch.asked[asked:]) < LATE
    assert watch.most - before < HEADROOM
    assert watch.web.is_running()
    now = stored(stack, run["id"])
    cursor = now.cursors[1, "trainer"]
    assert cursor in (len(watch.waits), len(watch.waits) + 1)
    assert now.points == {
        (1, seq, f"m{key}"): (seq, float(seq)) for seq in range(1, cursor + 1) for key in range(4)
    }


async def close_of(line: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    try:
        async with asyncio.timeout(10):
            while True:
                await line.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "dropped without a word"
        return closed.rcvd.code, closed.rcvd.reason
