"""A hostile or broken node is refused in words, and nobody else notices."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from orchestrator.consumers import intake
from orchestrator.consumers.listener import EVERYONE, listener, run_group
from orchestrator.consumers.node import NodeConsumer
from orchestrator.models import Chunk, Event, Run, State
from orchestrator.selectors.series import series_read
from orchestrator.services import ingest, points
from tests.orchestrator.conftest import LEASE, attempt_add
from tests.orchestrator.consumers.node_socket import Socket
from tests.orchestrator.telemetry import T0, lines, metrics, sample, spans, stored_steps

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.django_db(transaction=True)

CONNECTS = round(10_000 * float(os.environ.get("ANNEAL_SCALE") or 0.2))
stored = sync_to_async(stored_steps)


def nested(depth: int) -> Any:
    """A list in a list in a list."""
    found: Any = 1
    for _ in range(depth):
        found = [found]
    return found


STATUS = {"seq": 1, "time": T0, "type": "status", "state": "running"}
CHECKPOINT = {"seq": 1, "time": T0, "type": "checkpoint", "step": 1, "path": "x", "removed": [1]}
LOG = {"seq": 1, "time": T0, "type": "log", "lines": ["x"]}
HEARTBEAT = {"seq": 1, "time": T0, "type": "heartbeat", "expect_next_in": 5.0, "phase": "train"}
ALERT = {"seq": 1, "time": T0, "type": "alert", "level": "info", "code": "c", "message": "m"}

BAD_EVENTS = {
    "ten thousand names": metrics(1, **{f"m{n}": 1.0 for n in range(10_000)}),
    "a control character": metrics(1, **{"a\x07b": 1.0}),
    "an escape sequence": metrics(1, **{"\x1b[31mred": 1.0}),
    "a line separator": metrics(1, **{"a\u2028b": 1.0}),
    "half a character": metrics(1, **{"a\ud800": 1.0}),
    "no name": metrics(1, **{"": 1.0}),
    "a name of 300 characters": metrics(1, **{"n" * 300: 1.0}),
    "a negative seq": metrics(-1),
    "seq zero": metrics(0),
    "a seq that is true": {**metrics(1), "seq": True},
    "a huge seq": metrics(2**70),
    "a negative step": metrics(1, step=-5),
    "a step with a fraction": {**metrics(1), "step": 1.5},
    "a huge step": metrics(1, step=2**63),
    "values in a list": {**metrics(1), "values": [1.0]},
    "a value that is text": metrics(1, loss="high"),
    "a value that is true": metrics(1, loss=True),
    "a value that is null": metrics(1, loss=None),
    "a value of many digits": metrics(1, loss=10**400),
    "a time before all time": {**metrics(1), "time": -1.0},
    "a time after all time": {**metrics(1), "time": 1e300},
    "a time that is NaN": {**metrics(1), "time": "NaN"},
    "no time": {"seq": 1, "type": "metrics", "step": 1, "values": {}},
    "a deep value": metrics(1, loss=nested(200)),
    "a deep status": {**STATUS, "data": {"deep": nested(450)}},
    "a deep sample": sample(1, prompt=nested(450)),
    "data that is no object": {**STATUS, "data": 7},
    "removed that is no list": {**CHECKPOINT, "removed": 5},
    "an unknown type": {**metrics(1), "type": "exec"},
    "a type that is a list": {**metrics(1), "type": ["metrics"]},
    "spans of no process": spans(1, 1, process=""),
    "a process of 300 characters": spans(1, 1, process="p" * 300),
    "a thousand spans": spans(1, 1, *[("update", 0.1)] * 1000),
    "a span that ends before it begins": spans(1, 1, spans=[["update", 2.0, 1.0]]),
    "a span of NaN": spans(1, 1, spans=[["update", 0.0, "NaN"]]),
    "a span without an end": spans(1, 1, spans=[["update", 0.0]]),
    "a span of no phase": spans(1, 1, spans=[[None, 0.0, 1.0]]),
    "spans before all time": spans(1, 1, start=-1.0),
    "an event that is a number": 7,
}


@pytest.fixture
async def neighbour(ada: Any, node: Any) -> AsyncIterator[tuple[Socket, Run]]:
    """Another run with its own connection."""
    run = await Run.objects.acreate(
        name="other", owner=ada, spec={}, attempt=0, node=node, process="alive", state="running"
    )
    made = await sync_to_async(attempt_add)(run, 1)
    from orchestrator.services.tokens import digest_of

    made.lease_digest = digest_of("the-neighbours")
    await made.asave()
    socket = Socket("the-neighbours")
    await socket.open()
    await socket.push(lines(1, 3))
    yield socket, run
    ack = await socket.push(lines(4, 6))
    assert ack["cursor"] == 6
    await socket.line.disconnect()
    assert await stored(run) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("event", BAD_EVENTS.values(), ids=BAD_EVENTS)
async def test_a_bad_event_is_refused_in_words(
    run: Run, neighbour: tuple[Socket, Run], event: Any
) -> None:
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    source = "samples" if isinstance(event, dict) and event.get("type") == "sample" else "trainer"
    await socket.send(op="push", source=source, first=1, events=[event])
    answer = await socket.receive()
    assert answer["op"] == "refused"
    assert answer["error"].startswith(f"event 1 of {source}: ")
    assert 20 < len(answer["error"]) < 300
    assert await socket.close_code() == 4400
    assert not await Chunk.objects.filter(run=run).aexists()


async def test_refused_lines_leave_the_stream_where_it_was(
    run: Run, neighbour: tuple[Socket, Run]
) -> None:
    for bad in (metrics(3, step=-1), {**metrics(3), "seq": 9}):
        socket = Socket(f"{LEASE}-1")
        await socket.open()
        await socket.send(
            op="push", source="trainer", first=1, events=[metrics(1), metrics(2), bad]
        )
        assert (await socket.receive())["op"] == "refused"
        await socket.close_code()
    again = Socket(f"{LEASE}-1")
    assert (await again.open())["cursors"]["trainer"] == 0
    assert (await again.push(lines(1, 2)))["cursor"] == 2
    await again.line.disconnect()


JUNK: list[Any] = [
    *(None, True, -1, 0, 2**31, 2**63, 2**70, 1.5, -0.0, 1e300, 10**400),
    *("", "x", "NaN", "\x00", "\ud800", "x" * 100_000),
    *([], [1], ["x"], [None], [2**70], [[]], {}, {"x": 1}, {"spec": 1}, {"spec": {}, "sha256": 1}),
    *({"\x00": "\ud800"}, nested(100), nested(450), nested(900)),
]
TEMPLATES: list[tuple[str, dict[str, Any]]] = [
    ("trainer", metrics(1, loss=1.0)),
    ("trainer", {**STATUS, "cause": "user", "phase": "train", "step": 1, "total_steps": 2}),
    ("host", {**STATUS, "state": "failed", "exit_code": 1, "log": [], "pid": 3}),
    ("trainer", {**STATUS, "state": "finished", "data": {}}),
    ("trainer", {**CHECKPOINT, "bytes": 1, "sha256": "a", "metrics": {}, "final": True}),
    ("host", LOG),
    ("host", HEARTBEAT),
    ("trainer", ALERT),
    ("samples", sample(1)),
    ("trainer", spans(1, 1)),
]


@pytest.mark.parametrize(
    ("source", "event"),
    TEMPLATES,
    ids=lambda value: value if isinstance(value, str) else value["type"],
)
def test_junk_in_any_field_is_stored_or_refused_and_breaks_nothing(
    run: Run, source: str, event: dict[str, Any]
) -> None:
    """Anything but a PushError would close the socket without a word, again and again."""
    first = 1
    fields = [
        *event,
        *{"data", "metrics", "removed", "expect_next_in", "step", "log"} - event.keys(),
    ]
    for name in fields:
        for junk in JUNK:
            try:
                bad = {**event, "seq": first, name: junk}
                ack = ingest.push_ingest(
                    run_id=run.pk, attempt=1, source=source, first=first, events=[bad]
                )
            except ingest.PushError as error:
                assert str(error)
            else:
                assert ack.applied
                first = ack.cursor + 1
    ingest.beat(run_id=run.pk, attempt=1)


async def test_a_run_has_a_bounded_number_of_names(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert points.SERIES_MOST >= 10_000
    monkeypatch.setattr(points, "SERIES_MOST", 5)
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    await socket.push([metrics(1, **{f"m{n}": n for n in range(5)})])
    assert (await socket.push([metrics(2, m0=1, m4=2)]))["cursor"] == 2
    points._ids_of_run.clear()  # as in a process that has just started
    await socket.send(op="push", source="trainer", first=3, events=[metrics(3, m0=1, m5=2)])
    answer = await socket.receive()
    assert answer["op"] == "refused" and "6 metric names; 5 is the most" in answer["error"]


@pytest.mark.parametrize("moment", [0.0, 1.0, 99_999_999_999.0])
async def test_a_clock_far_off_changes_only_what_it_says_itself(run: Run, moment: float) -> None:
    before = timezone.now()
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    events = [{**metrics(1, loss=1.0), "time": moment}, {**STATUS, "seq": 2, "time": moment}]
    assert (await socket.push(events))["cursor"] == 2
    assert (await socket.push([{**metrics(3, loss=2.0), "time": T0}]))["cursor"] == 3
    await socket.line.disconnect()
    await run.arefresh_from_db()
    # Whether somebody speaks is told by this server's clock.
    assert run.last_contact is not None and before <= run.last_contact <= timezone.now()
    assert run.started is not None and before <= run.started <= timezone.now()
    assert run.state == State.RUNNING
    by_step = await sync_to_async(series_read)(run=run, keys=["loss"])
    assert (by_step["loss"]["x"], by_step["loss"]["y"]) == ([1, 3], [1.0, 2.0])
    by_time = await sync_to_async(series_read)(run=run, keys=["loss"], x="time")
    assert by_time["loss"]["x"] == sorted([moment, T0])
    event = await Event.objects.aget(run=run, source="trainer")
    assert event.time.timestamp() == moment


async def test_a_flood_without_waiting_for_answers_is_refused(
    run: Run, neighbour: tuple[Socket, Run]
) -> None:
    flood = Socket(f"{LEASE}-1")
    await flood.open()
    for _ in range(intake.FRAMES_MOST * 4):
        await flood.send(op="push", source="trainer", first=7, events=lines(7, 8))
    answers = [await flood.receive()]
    while answers[-1]["op"] != "refused":
        answers.append(await flood.receive())
    assert "wait for the answers" in answers[-1]["error"]
    assert await flood.close_code() == intake.FLOOD
    assert len(answers) < intake.FRAMES_MOST
    await flood.line.disconnect()


async def test_big_frames_that_wait_count_by_their_size(
    run: Run, neighbour: tuple[Socket, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SIZE_MOST", 3_000_000)
    flood = Socket(f"{LEASE}-1")
    await flood.open()
    for _ in range(10):
        await flood.send(op="push", source="trainer", first=7, events=["x" * 900_000])
    assert (await flood.receive())["op"] == "refused"
    assert await flood.close_code() in (intake.FLOOD, 4400)
    await flood.line.disconnect()


async def test_what_follows_a_refused_frame_is_not_read(run: Run) -> None:
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    await socket.send(op="dance")
    await socket.send(op="push", source="trainer", first=1, events=lines(1, 1))
    assert (await socket.receive())["op"] == "refused"
    assert await socket.close_code() == 4400
    assert await socket.line.receive_nothing(timeout=0.2)
    assert await stored(run) == []


async def test_a_beat_is_answered_behind_the_pushes_before_it(run: Run) -> None:
    """Ship takes a push whose answer a beat overtakes for lost."""
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    for first in (1, 3, 5):
        events = lines(first, first + 1)
        await socket.send(op="push", source="trainer", first=first, events=events)
    await socket.send(op="beat")
    answers = [await socket.receive() for _ in range(4)]
    assert [answer.get("source") for answer in answers] == ["trainer"] * 3 + [None]
    await socket.line.disconnect()


async def ended(socket: Socket) -> None:
    """Wait until the database's absence has ended the consumer."""
    await asyncio.wait({socket.line.future}, timeout=5)
    with pytest.raises(OperationalError):
        socket.line.future.result()


async def test_a_socket_that_breaks_leaves_its_groups(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> None:
        raise OperationalError("the database is away")

    groups = get_channel_layer().groups
    socket = Socket(f"{LEASE}-1")
    await socket.open()
    assert run_group(run.pk) in groups
    monkeypatch.setattr(ingest, "push_ingest", away)
    await socket.send(op="push", source="trainer", first=1, events=lines(1, 1))
    await ended(socket)
    monkeypatch.setattr(ingest, "beat", away)
    late = Socket(f"{LEASE}-1")
    await late.line.send_input({"type": "websocket.connect"})
    await ended(late)
    assert not groups.get(run_group(run.pk)) and not groups.get(EVERYONE)
    assert listener().users == 0


@pytest.mark.slow
async def test_many_connections_leave_nothing_behind(
    run: Run, neighbour: tuple[Socket, Run]
) -> None:
    layer = get_channel_layer()

    async def once(number: int) -> None:
        socket = Socket(f"{LEASE}-1" if number % 3 else "wrong")
        await socket.open()
        if number % 3 == 2:
            await socket.send(op="dance")
            await socket.receive()
        await socket.line.disconnect()

    for number in range(20):
        await once(number)
    tasks = len(asyncio.all_tasks())
    begun = time.monotonic()
    for number in range(CONNECTS):
        await once(number)
    print(f"{CONNECTS} connections in {time.monotonic() - begun:.0f} s")
    assert not layer.groups.get(run_group(run.pk))
    assert len(layer.groups[EVERYONE]) == 1 == listener().users
    # A hint that was on its way to a socket that is gone expires after a minute.
    assert sum(queue.empty() for queue in layer.channels.values()) <= 2
    assert len(asyncio.all_tasks()) <= tasks + 1
    gc.collect()
    # isinstance would ask each thing for its class, and some of the libraries warn of that.
    left = sum(issubclass(type(thing), NodeConsumer) for thing in gc.get_objects())
    assert left <= 3


def test_bad_frames_are_shown_briefly() -> None:
    """What a node sent comes back in a refusal, cut and without control characters."""
    try:
        ingest.push_ingest(
            run_id="x", attempt=1, source="\x1b[31m" + "a" * 10_000, first=1, events=[]
        )
    except ingest.PushError as error:
        assert len(str(error)) < 200 and "\x1b" not in str(error)
        assert json.dumps(str(error))
