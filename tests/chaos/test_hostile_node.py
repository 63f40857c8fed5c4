"""A hostile node at a real server: refused early, in words, while another node's pushes go on as before."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.flooder import push
from tests.chaos.neighbour import MIB, close_of, dial, unharmed
from tests.chaos.stack import Stack
from tests.chaos.stored import stored
from trainer.frames import FRAME_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = [pytest.mark.slow]


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
    return made(stack, attempts=1)


def made(stack: Stack, attempts: int) -> list[dict[str, Any]]:
    """Two runs of so many attempts each, the first of which is at work."""
    command = [sys.executable, "-m", "tests.chaos.runs_make", "2", str(attempts)]
    told = subprocess.run(
        command, env=stack.env, cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    return json.loads(told.stdout)  # type: ignore[no-any-return]


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


def metrics(**fields: Any) -> str:
    """A push of one metrics line with some fields of it changed."""
    event = {"seq": 1, "time": 1e9, "type": "metrics", "step": 1, "values": {"a": 1.0}, **fields}
    return json.dumps({"op": "push", "source": "trainer", "first": 1, "events": [event]})


FAULTY = {
    "half a frame": ("{", "not JSON"),
    "a bare NaN": ('{"op":"push","first":NaN}', "JSON"),
    "half a million brackets": ("[" * 500_000, "not JSON"),
    "no events": ('{"op":"push"}', "is not a source"),
    "a negative seq": (push(-3), "first is -3"),
    "10,000 names in a step": (push(1, keys=10_000), "it holds 10000 metrics; 2000 is the most"),
    "a bell in a name": (metrics(values={"a\x07b": 1.0}), "is not a metric name"),
    "an escape sequence in a name": (metrics(values={"\x1b[31m": 1.0}), "is not a metric name"),
    "half a character in a name": (metrics(values={"a\ud800": 1.0}), "is not a metric name"),
    "a clock after all time": (metrics(time=1e300), "is not Unix time in seconds"),
    "a clock before all time": (metrics(time=-1.0), "is not Unix time in seconds"),
}
"""What a broken node sends, and words of the answer."""


async def test_a_wrong_token_is_refused(stack: Stack, runs: list[dict[str, Any]]) -> None:
    async with unharmed(stack, runs[1], "wrong tokens"):
        for token in ("", "a-wrong-token", "x" * 8000) * 3:
            async with dial(stack, token) as line:
                answer = json.loads(await line.recv())
                assert answer["op"] == "refused" and "lease token is unknown" in answer["error"]
                assert (await close_of(line))[0] == 4401


@pytest.mark.parametrize("name", FAULTY)
async def test_a_faulty_frame_is_refused_in_words(
    stack: Stack, runs: list[dict[str, Any]], name: str
) -> None:
    frame, words = FAULTY[name]
    async with unharmed(stack, runs[1], name):
        for _ in range(10):
            async with dial(stack, runs[0]["tokens"][0]) as line:
                assert json.loads(await line.recv())["op"] == "hello"
                await line.send(frame)
                answer = json.loads(await line.recv())
                assert answer["op"] == "refused" and words in answer["error"], answer
                assert len(answer["error"]) < 400 and answer["error"].isprintable()
                assert (await close_of(line))[0] == 4400
    assert not stored(stack, runs[0]["id"]).points


async def test_an_old_attempt_is_told_to_stop_and_speaks_for_itself_alone(stack: Stack) -> None:
    """Its lines are kept, since they were journalled; they move nothing of the run."""
    runs = made(stack, attempts=2)
    run_id, token = runs[0]["id"], runs[0]["tokens"][0]
    stack.query(
        "UPDATE orchestrator_run SET attempt = 2, last_contact = NULL WHERE id = %s RETURNING id",
        run_id,
    )
    before = stack.run(run_id)
    last_words = {"seq": 2, "time": 1e9, "type": "status", "state": "failed", "cause": "crash"}
    ended = json.dumps({"op": "push", "source": "trainer", "first": 2, "events": [last_words]})
    async with unharmed(stack, runs[1], "an old attempt"), dial(stack, token) as line:
        hello = json.loads(await line.recv())
        assert (hello["want"], hello["cause"]) == ("stop", "fenced")
        assert hello["message"] == "attempt 2 has taken over"
        for frame, cursor in ((push(1), 1), (ended, 2)):
            await line.send(frame)
            ack = json.loads(await line.recv())
            assert (ack["cursor"], ack["want"], ack["cause"]) == (cursor, "stop", "fenced")
        await line.send(
            json.dumps({"op": "done", "counts": {"trainer": 2, "samples": 0, "host": 0}})
        )
        assert json.loads(await line.recv())["op"] == "bye"
    after = stack.run(run_id)
    assert after == before and (after["state"], after["step"]) == ("running", 0)
    assert {place[0] for place in stored(stack, run_id).points} == {1}


@pytest.mark.parametrize(("ahead", "side"), [(3e8, "ahead of"), (-3e8, "behind")])
async def test_a_clock_far_off_is_told_of_and_moves_only_its_own_time_axis(
    stack: Stack, runs: list[dict[str, Any]], ahead: float, side: str
) -> None:
    run_id = runs[0]["id"]
    begun = time.time()
    async with (
        unharmed(stack, runs[1], "a clock far off"),
        dial(stack, runs[0]["tokens"][0]) as line,
    ):
        await line.recv()
        await line.send(metrics(time=begun + ahead))
        assert json.loads(await line.recv())["cursor"] == 1
        beat = {"op": "beat", "sent": begun + ahead, "clock": [ahead, 0.01]}
        for _ in range(3):
            await line.send(json.dumps(beat))
            assert json.loads(await line.recv())["op"] == "ack"
    run = stack.run(run_id)
    assert run["state"] == "running"
    contact = datetime.fromisoformat(run["last_contact"]).timestamp()
    assert begun - 1 < contact < time.time() + 1, "contact goes by the server's clock"
    alerts = stack.call("GET", f"/runs/{run_id}/events?type=alert")["items"]
    assert len(alerts) == 1 and f" d {side} the server's" in alerts[0]["data"]["message"], alerts
    lag = stack.call("GET", f"/runs/{run_id}/truth")["streams"][0]["lag_p50_s"]
    assert 0 <= lag < 60, "the lag is corrected"


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
