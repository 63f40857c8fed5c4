"""The node's socket: cursors, orders, refusals."""

from __future__ import annotations

import asyncio
import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async

from orchestrator.models import Attempt, Run, ShipReport, StreamHealth
from orchestrator.services.hints import hint
from tests.orchestrator.conftest import LEASE, attempt_add
from tests.orchestrator.consumers.node_socket import Socket
from tests.orchestrator.telemetry import lines, metrics, sample, stored_steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.django_db(transaction=True)

stored = sync_to_async(stored_steps)


@pytest.fixture
async def socket(run: Run) -> AsyncIterator[Socket]:
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    yield socket
    await socket.line.disconnect()


async def test_it_greets_with_its_cursors(run: Run) -> None:
    first = Socket(f"{LEASE}-1")
    hello = await first.open()
    assert hello == {
        "op": "hello",
        "run": run.pk,
        "attempt": 1,
        "cursors": {"trainer": 0, "samples": 0, "host": 0},
        "want": "run",
        "cause": "user",
        "message": "",
        "knobs": {},
        "asks": {},
        "on_stall": "tell",
        "pins": [],
    }
    await first.push(lines(1, 4))
    await first.line.disconnect()
    again = Socket(f"{LEASE}-1")
    assert (await again.open())["cursors"]["trainer"] == 4
    await again.line.disconnect()


async def test_it_acks_pushes(run: Run, socket: Socket) -> None:
    ack = await socket.push(lines(1, 3))
    assert (ack["op"], ack["source"], ack["cursor"], ack["want"]) == ("ack", "trainer", 3, "run")
    assert (await socket.push(lines(5, 6)))["cursor"] == 3
    assert (await socket.push([sample(1)], source="samples"))["source"] == "samples"
    assert await stored(run) == [1, 2, 3]


async def test_pipelined_pushes_are_answered_in_order(run: Run, socket: Socket) -> None:
    for first in (1, 3, 5, 9, 7):
        events = lines(first, first + 1)
        await socket.send(op="push", source="trainer", first=first, events=events)
    assert [(await socket.receive())["cursor"] for _ in range(5)] == [2, 4, 6, 6, 8]
    assert await stored(run) == [1, 2, 3, 4, 5, 6, 7, 8]


async def test_two_sockets_of_one_attempt_store_each_line_once(run: Run, socket: Socket) -> None:
    other = Socket(f"{LEASE}-1")
    await other.open()
    await asyncio.gather(*(line.push(lines(1, 20)) for line in (socket, other)))
    await other.line.disconnect()
    assert await stored(run) == list(range(1, 21))


@pytest.mark.parametrize("token", [None, "", "wrong", "Bearer x"])
async def test_a_wrong_token_is_refused(run: Run, token: str | None) -> None:
    socket = Socket(token)
    assert (await socket.open())["op"] == "refused"
    assert await socket.close_code() == 4401


async def test_an_attempt_without_a_lease_lets_nobody_in(run: Run) -> None:
    await Attempt.objects.aupdate(lease_digest="")
    socket = Socket("")
    assert (await socket.open())["op"] == "refused"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        '{"op": 3}',
        '{"op": "dance"}',
        '{"op": "push", "source": "trainer", "first": 1, "events": [{"seq": 1}]}',
        json.dumps(
            {"op": "push", "source": "trainer", "first": 1, "events": [metrics(1, a=math.nan)]}
        ),
        '{"op": "push", "source": {}, "first": [], "events": {}}',
        '{"op": "push"}',
        '{"op": "done"}',
        '{"op": "done", "counts": {"diary": 1}}',
        '{"op": "done", "counts": {"trainer": "1"}}',
        "[" * 100_000,
        json.dumps({"op": "push", "source": "trainer", "first": 1, "events": ["x" * (1 << 20)]}),
        json.dumps(
            {"op": "push", "source": "trainer", "first": 1, "events": [metrics(1, **{"a\x00": 1})]}
        ),
    ],
    ids=lambda text: text[:60],
)
async def test_a_bad_frame_closes_only_its_own_socket(run: Run, socket: Socket, text: str) -> None:
    other = Socket(f"{LEASE}-1")
    await other.open()
    await other.line.send_to(text_data=text)
    answer = await other.receive()
    assert (answer["op"], bool(answer["error"])) == ("refused", True)
    assert await other.close_code() == 4400
    assert (await socket.push(lines(1, 1)))["cursor"] == 1


async def test_a_binary_frame_is_refused(socket: Socket) -> None:
    await socket.line.send_to(bytes_data=b"\x00")
    assert (await socket.receive())["op"] == "refused"


async def test_what_people_want_arrives_at_once(run: Run, socket: Socket) -> None:
    run.desired, run.reason = "stop", "stopped by ada"
    await run.asave()
    await sync_to_async(hint)("want", run=run.pk)
    want = await socket.receive()
    assert (want["op"], want["want"], want["message"]) == ("want", "stop", "stopped by ada")


async def test_a_beat_carries_what_people_want(run: Run, socket: Socket) -> None:
    await Run.objects.aupdate(desired="pause")
    await socket.send(op="beat")
    ack = await socket.receive()
    assert (ack["op"], ack["want"]) == ("ack", "pause")
    assert "source" not in ack


async def test_an_old_attempt_delivers_and_is_told_to_stop(run: Run, socket: Socket) -> None:
    await sync_to_async(attempt_add)(run, 2)
    ack = await socket.push(lines(1, 2))
    assert (ack["cursor"], ack["want"], ack["cause"]) == (2, "stop", "fenced")
    assert await stored(run) == [1, 2]


async def test_it_says_bye_when_every_line_has_arrived(run: Run, socket: Socket) -> None:
    await socket.push(lines(1, 2))
    counts = {"trainer": 3, "samples": 0, "host": 0}
    await socket.send(op="done", counts=counts)
    assert (await socket.receive())["cursor"] == 2
    await socket.push(lines(3, 3))
    await socket.send(op="done", counts=counts)
    assert await socket.receive() == {"op": "bye"}
    await run.arefresh_from_db()
    assert run.complete


async def test_a_browsers_foreign_page_cannot_open_it(run: Run) -> None:
    socket = Socket(f"{LEASE}-1", origin="https://elsewhere.example")
    connected, _ = await socket.line.connect()
    assert not connected


async def test_a_beat_tells_ship_what_the_servers_clock_says(run: Run, socket: Socket) -> None:
    before = time.time()
    await socket.send(op="beat", sent=12.5, journals={"trainer": [4, 400, 0]}, clock=[0.5, 0.01])
    ack = await socket.receive()
    arrived, replied = ack["clock"]
    assert ack["sent"] == 12.5 and before <= arrived <= replied <= time.time()
    report = await ShipReport.objects.aget(run=run, attempt=1)
    assert (report.journals, report.clock_offset) == ({"trainer": [4, 400, 0]}, 0.5)


@pytest.mark.parametrize("sent", ["x" * 1000, [], True, -1, 1e30, None])
async def test_a_moment_that_is_none_is_not_answered(run: Run, socket: Socket, sent: Any) -> None:
    await socket.send(op="beat", sent=sent)
    assert "sent" not in await socket.receive()


async def test_a_faulty_report_closes_the_socket(run: Run, socket: Socket) -> None:
    await socket.send(op="beat", journals={"trainer": [1, -1, 0]})
    assert (await socket.receive())["op"] == "refused"
    assert await socket.close_code() == 4400


async def test_counts_are_written_when_the_socket_closes(run: Run) -> None:
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    for _ in range(3):
        await socket.push(lines(1, 2))
    await socket.line.disconnect()
    row = await StreamHealth.objects.aget(run=run, attempt=1, source="trainer")
    assert (row.pushes, row.repeated_pushes) == (1, 2)
