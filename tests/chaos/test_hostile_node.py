"""A hostile node at a real server: refused early, in words, while another node's pushes go on as before."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.flooder import push
from tests.chaos.stack import Stack
from tests.chaos.stored import stored
from trainer.frames import FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from websockets.asyncio.client import ClientConnection

pytestmark = [pytest.mark.slow]

MIB = 1 << 20
HEADROOM = 64 * MIB
"""How much the web process may grow under any of these attacks."""
LATE = 2.0
"""Seconds: the longest wait of the neighbour for an answer while somebody attacks, on a busy machine."""


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    found = Stack()
    try:
        found.up()
        yield found
    finally:
        found.remove()


@pytest.fixture
def runs(stack: Stack) -> list[dict[str, Any]]:
    """A hostile one and its neighbour."""
    command = [sys.executable, "-m", "tests.chaos.runs_make", "2", "1"]
    made = subprocess.run(
        command, env=stack.env, cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    return json.loads(made.stdout)  # type: ignore[no-any-return]


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


@asynccontextmanager
async def unharmed(stack: Stack, run: dict[str, Any], name: str) -> AsyncIterator[None]:
    """Assert that the neighbour keeps its pace and its data, and the web part its memory."""
    watch = Watch(stack, run)
    pushing = asyncio.create_task(watch.push_on())
    await asyncio.sleep(1.0)
    quiet, watch.most = len(watch.waits), watch.web.memory_info().rss
    before = watch.most
    yield
    await asyncio.sleep(0.3)
    assert not pushing.done(), "the neighbour lost its connection"
    pushing.cancel()
    await asyncio.gather(pushing, return_exceptions=True)
    during = watch.waits[quiet:]
    print(
        f"\n{name}: neighbour's ack p50 {statistics.median(watch.waits[:quiet]) * 1e3:.0f} ms before,"
        f" {statistics.median(during) * 1e3:.0f} ms p50 and {max(during) * 1e3:.0f} ms most during"
        f" ({len(during)} pushes); web {before / MIB:.0f} → {watch.most / MIB:.0f} MiB at most"
    )
    assert max(during) < LATE
    assert watch.most - before < HEADROOM
    assert watch.web.is_running()
    now = stored(stack, run["id"])
    assert now.cursors[1, "trainer"] in (len(watch.waits), len(watch.waits) + 1)
    assert len(now.points) == 4 * now.cursors[1, "trainer"]


async def close_of(line: ClientConnection) -> tuple[int, str]:
    """The code and reason with which the server closes."""
    try:
        async with asyncio.timeout(10):
            while True:
                await line.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd is not None, "dropped without a word"
        return closed.rcvd.code, closed.rcvd.reason


async def test_a_huge_frame_is_refused_at_its_header(
    stack: Stack, runs: list[dict[str, Any]]
) -> None:
    async with unharmed(stack, runs[1], "huge frames"):
        reader, writer = await handshake(stack, runs[0]["tokens"][0])
        # A text frame that promises a gibibyte, and a sender that does not stop.
        writer.write(b"\x81\xff" + (1 << 30).to_bytes(8, "big") + b"\x00\x00\x00\x00")
        told = b""
        sent = 0
        try:
            while sent < 512 * MIB and b"exceeds payload limit" not in told:
                writer.write(b" " * MIB)
                await writer.drain()
                sent += MIB
                if not reader.at_eof():
                    told += await poll(reader)
        except ConnectionError:
            pass
        assert b"exceeds payload limit" in told, "dropped without a word"
        assert sent < 64 * MIB
        writer.close()


async def poll(reader: asyncio.StreamReader) -> bytes:
    try:
        return await asyncio.wait_for(reader.read(4096), 0.005)
    except TimeoutError:
        return b""


async def handshake(stack: Stack, token: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", stack.port)
    words = [
        "GET /ws/node/ HTTP/1.1",
        f"Host: 127.0.0.1:{stack.port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"Authorization: Bearer {token}",
    ]
    writer.write(("\r\n".join(words) + "\r\n\r\n").encode())
    assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def test_frames_that_come_in_endless_parts_are_refused(
    stack: Stack, runs: list[dict[str, Any]]
) -> None:
    async with unharmed(stack, runs[1], "endless parts"):
        async with dial(stack, runs[0]["tokens"][0]) as line:
            await line.recv()

            async def parts() -> AsyncIterator[str]:
                while True:
                    yield "x" * 65_536

            sending = asyncio.create_task(line.send(parts()))
            code, reason = await close_of(line)
            await asyncio.gather(sending, return_exceptions=True)
        assert code == 1009 and "exceeds payload limit" in reason


async def test_a_frame_a_little_too_large_is_told_what_a_frame_may_hold(
    stack: Stack, runs: list[dict[str, Any]]
) -> None:
    async with unharmed(stack, runs[1], "large frames"):
        for _ in range(20):
            async with dial(stack, runs[0]["tokens"][0]) as line:
                await line.recv()
                await line.send('{"op":"' + "x" * FRAME_BYTES + '"}')
                answer = json.loads(await line.recv())
                assert answer["op"] == "refused" and str(FRAME_BYTES) in answer["error"]
                assert (await close_of(line))[0] == 4400


async def test_a_flood_of_pushes_is_refused(stack: Stack, runs: list[dict[str, Any]]) -> None:
    """Pushes that never wait for an answer: stale small ones, and some close to the largest."""
    url = f"ws://127.0.0.1:{stack.port}/ws/node/"
    async with unharmed(stack, runs[1], "a flood of pushes"):
        for lines in (1, 5000) * 3:
            # In a process of its own: here it would slow down the neighbour whom we watch.
            flooder = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.flooder", url, runs[0]["tokens"][0]),
                str(lines),
                cwd=PROJECT_DIR,
                stdout=subprocess.PIPE,
            )
            told, _ = await asyncio.wait_for(flooder.communicate(), 60)
            _, answer = json.loads(told)
            # The close frame itself may be lost: who goes on sending is cut off after a second.
            assert answer["op"] == "refused" and "wait for the answers" in answer["error"], answer


async def test_strangers_and_garbage_are_refused(stack: Stack, runs: list[dict[str, Any]]) -> None:
    token = runs[0]["tokens"][0]
    frames = ["{", "[" * 500_000, '{"op":"push"}', push(-3), push(1, keys=10_000)]
    async with unharmed(stack, runs[1], "strangers and garbage"):
        for _ in range(10):
            async with dial(stack, "a-wrong-token") as line:
                assert json.loads(await line.recv())["op"] == "refused"
                assert (await close_of(line))[0] == 4401
            for frame in frames:
                async with dial(stack, token) as line:
                    assert json.loads(await line.recv())["op"] == "hello"
                    await line.send(frame)
                    assert json.loads(await line.recv())["op"] == "refused"
                    assert (await close_of(line))[0] == 4400
    assert not stored(stack, runs[0]["id"]).points


async def test_many_connections_at_once_leave_nothing_behind(
    stack: Stack, runs: list[dict[str, Any]]
) -> None:
    count = round(2000 * float(os.environ.get("ANNEAL_SCALE") or 0.2))

    async def once(number: int) -> None:
        async with dial(stack, runs[0]["tokens"][0] if number % 2 else "wrong") as line:
            await line.recv()
            line.transport.abort()

    async with unharmed(stack, runs[1], f"{count} connections"):
        for start in range(0, count, 20):
            await asyncio.gather(*map(once, range(start, start + 20)), return_exceptions=True)
