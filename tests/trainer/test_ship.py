"""Ship: every journalled line is at the server exactly once, whatever the network does in between."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import serve

from trainer import ship
from trainer.control import Control
from trainer.frames import FRAME_BYTES, LINE_BYTES, line_cut
from trainer.journal import Journal
from trainer.rundir import RunDir, write_atomic
from trainer.ship import Ship, control_read


class Server:
    """Stores pushes by the cursor's rule, and misbehaves on request."""

    def __init__(self) -> None:
        self.stored: dict[str, list[dict]] = {"trainer": [], "samples": [], "host": []}
        self.frames: list[tuple[str, int]] = []
        self.order = {"want": "run", "cause": "user", "message": "", "knobs": {}}
        self.counts: dict | None = None
        self.connections = 0
        self.accepts = True
        self.mischief = lambda frame: ""
        self.refuse: tuple[int, str] | None = None
        self.sockets: set = set()

    async def handle(self, socket) -> None:
        self.connections += 1
        self.sockets.add(socket)
        assert socket.request.path == "/ws/node/"
        assert socket.request.headers["Authorization"] == "Bearer secret"
        assert "Origin" not in socket.request.headers
        if self.refuse:
            code, error = self.refuse
            await socket.send(json.dumps({"op": "refused", "error": error}))
            await socket.close(code)
            return
        cursors = {source: len(rows) for source, rows in self.stored.items()}
        hello = {"op": "hello", "run": "r", "attempt": 1, "cursors": cursors, **self.order}
        await socket.send(json.dumps(hello))
        async for text in socket:
            assert len(text.encode()) <= FRAME_BYTES
            frame = json.loads(text)
            self.frames.append((frame.get("source", frame["op"]), len(frame.get("events", []))))
            if frame["op"] == "push":
                await self.push(socket, frame)
            elif frame["op"] == "beat":
                await socket.send(json.dumps({"op": "ack", **self.order}))
            elif frame["op"] == "done":
                self.counts = frame["counts"]
                await socket.send('{"op":"bye"}')

    async def push(self, socket, frame) -> None:
        trick = self.mischief(frame)
        if trick == "close-before":
            await socket.close()
            return
        if trick == "refuse":
            await socket.send(json.dumps({"op": "refused", "error": "a faulty event"}))
            await socket.close(4400)
            return
        rows = self.stored[frame["source"]]
        if frame["first"] == len(rows) + 1 and trick != "drop":
            assert [event["seq"] for event in frame["events"]] == list(
                range(frame["first"], frame["first"] + len(frame["events"]))
            )
            rows += frame["events"]
        if trick == "close-after":
            socket.transport.abort()
            return
        answer = {"op": "ack", "source": frame["source"], "cursor": len(rows), **self.order}
        await socket.send(json.dumps(answer))

    def seqs(self, source: str) -> list[int]:
        return [event["seq"] for event in self.stored[source]]


@asynccontextmanager
async def listening(server: Server, port: int = 0):
    async with serve(server.handle, "127.0.0.1", port, max_size=4 << 20, compression=None) as found:
        yield found.sockets[0].getsockname()[1]


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    monkeypatch.setattr(ship, "BACKOFF_FIRST", 0.02)
    monkeypatch.setattr(ship, "BACKOFF_MOST", 0.1)
    found = RunDir(tmp_path / "run").attempt(1)
    found.path.mkdir(parents=True)
    return found


def lease(attempt, port: int) -> None:
    text = json.dumps({"server": f"ws://127.0.0.1:{port}", "token": "secret"})
    write_atomic(attempt.lease, text, 0o600)


def metrics(journal: Journal, count: int) -> None:
    for _ in range(count):
        journal.append("metrics", step=journal.seq, values={"loss": float("nan")})


def finish(attempt) -> None:
    with Journal(attempt.journal("host")) as journal:
        journal.append("status", state="finished", cause="finished", message="")


async def shipped(attempt, within: float = 20) -> int:
    return await asyncio.wait_for(Ship(attempt, lambda sentence: None).run(), within)


async def test_it_delivers_everything_and_says_done(attempt):
    server = Server()
    with (
        Journal(attempt.journal("trainer")) as trainer,
        Journal(attempt.journal("samples")) as samples,
    ):
        metrics(trainer, 5000)
        for step in range(30):
            samples.append("sample", step=step, completion="x" * 100_000)
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        assert await shipped(attempt) == ship.EXIT_DONE
    assert server.seqs("trainer") == list(range(1, 5001))
    assert server.seqs("samples") == list(range(1, 31))
    assert server.stored["trainer"][0]["values"]["loss"] == "NaN"
    assert server.counts == {"trainer": 5000, "samples": 30, "host": 1}


async def test_metrics_are_not_delayed_by_bulky_samples(attempt):
    server = Server()
    with (
        Journal(attempt.journal("samples")) as samples,
        Journal(attempt.journal("trainer")) as trainer,
    ):
        for step in range(60):
            samples.append("sample", step=step, completion="x" * 100_000)
        metrics(trainer, 3)
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        await shipped(attempt)
    assert server.frames[0][0] == "trainer"
    assert all(count <= 10 for source, count in server.frames if source == "samples")


@pytest.mark.parametrize("seed", range(4))
async def test_each_line_arrives_once_through_drops_doubles_and_broken_connections(attempt, seed):
    server, chance = Server(), random.Random(seed)
    tricks = ["", "", "drop", "close-before", "close-after"]
    server.mischief = lambda frame: chance.choice(tricks)
    async with listening(server) as port:
        lease(attempt, port)
        sending = asyncio.create_task(shipped(attempt, within=60))
        with (
            Journal(attempt.journal("trainer")) as trainer,
            Journal(attempt.journal("samples")) as samples,
        ):
            for _ in range(40):
                metrics(trainer, chance.randrange(1, 60))
                samples.append("sample", step=trainer.seq, completion="y" * 5000)
                await asyncio.sleep(0.01)
            total = trainer.seq
        finish(attempt)
        assert await sending == ship.EXIT_DONE
    assert server.seqs("trainer") == list(range(1, total + 1))
    assert server.seqs("samples") == list(range(1, 41))
    assert server.connections > 1


async def test_a_torn_last_line_waits_until_it_is_whole(attempt):
    server = Server()
    path = attempt.journal("trainer")
    path.write_text('{"seq":1,"time":1,"type":"metrics","step":1,"values":{}}\n{"seq":2,"ti')
    async with listening(server) as port:
        lease(attempt, port)
        sending = asyncio.create_task(shipped(attempt))
        while server.seqs("trainer") != [1]:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.2)
        assert server.seqs("trainer") == [1]
        with path.open("a") as file:
            file.write('me":1,"type":"metrics","step":2,"values":{}}\n')
        finish(attempt)
        assert await sending == ship.EXIT_DONE
    assert server.seqs("trainer") == [1, 2]


async def test_a_server_that_comes_back_elsewhere_gets_the_rest(attempt):
    server = Server()
    trainer = Journal(attempt.journal("trainer"))
    metrics(trainer, 10)
    async with listening(server) as port:
        lease(attempt, port)
        sending = asyncio.create_task(shipped(attempt, within=30))
        while len(server.seqs("trainer")) < 10:
            await asyncio.sleep(0.02)
    metrics(trainer, 10)
    await asyncio.sleep(0.3)
    async with listening(server) as port:
        lease(attempt, port)
        finish(attempt)
        assert await sending == ship.EXIT_DONE
    assert server.seqs("trainer") == list(range(1, 21))


async def test_orders_reach_the_control_file_only_when_they_change(attempt):
    server = Server()
    async with listening(server) as port:
        lease(attempt, port)
        sending = asyncio.create_task(shipped(attempt))
        await asyncio.sleep(0.3)
        assert not attempt.control.exists()
        server.order = {
            "want": "stop",
            "cause": "user",
            "message": "by ada",
            "knobs": {"budget.max_steps": 9},
        }
        for socket in server.sockets:
            await socket.send(json.dumps({"op": "want", **server.order}))
        while not attempt.control.exists():
            await asyncio.sleep(0.01)
        assert control_read(attempt.control) == Control(
            "stop", "user", "by ada", {"budget.max_steps": 9}
        )
        stamp = attempt.control.stat().st_mtime_ns
        finish(attempt)
        await sending
    assert attempt.control.stat().st_mtime_ns == stamp


async def test_an_order_that_a_full_disk_refused_is_noted_at_the_next_answer(attempt, monkeypatch):
    carrier = ship.Ship(attempt, lambda sentence: None)
    answer = {"want": "stop", "cause": "user", "message": "by ada"}

    def full(self, path):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Control, "write", full)
        carrier._obey(answer)
    assert not attempt.control.exists()
    carrier._obey(answer)
    assert control_read(attempt.control) == Control("stop", "user", "by ada")


async def test_no_answer_takes_back_a_stop_that_this_machine_ordered(attempt):
    server = Server()
    Control("stop", "server-stopped", "server stopped").write(attempt.control)
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        await shipped(attempt)
    assert control_read(attempt.control).cause == "server-stopped"


@pytest.mark.parametrize(("code", "written"), [(4401, "run"), (4409, "stop")])
async def test_it_gives_up_only_when_refused_for_good(attempt, code, written):
    server = Server()
    server.refuse = (code, "no more")
    async with listening(server) as port:
        lease(attempt, port)
        assert await shipped(attempt) == ship.EXIT_REFUSED
    assert control_read(attempt.control).want == written


async def test_a_refusal_that_may_pass_is_tried_again(attempt):
    server = Server()
    server.refuse = (1011, "the database is away")
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        sending = asyncio.create_task(shipped(attempt))
        while server.connections < 3:
            await asyncio.sleep(0.02)
        server.refuse = None
        assert await sending == ship.EXIT_DONE


async def test_one_line_that_the_server_refuses_does_not_hold_up_the_others(attempt):
    server = Server()

    def faulty(frame):
        bad = [e for e in frame["events"] if e["seq"] == 7 and e["type"] == "metrics"]
        return "refuse" if frame["source"] == "trainer" and bad else ""

    server.mischief = faulty
    with Journal(attempt.journal("trainer")) as trainer:
        metrics(trainer, 50)
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        assert await shipped(attempt) == ship.EXIT_DONE
    assert server.seqs("trainer") == list(range(1, 51))
    stubs = [e["seq"] for e in server.stored["trainer"] if e["type"] == "alert"]
    assert stubs == [7]


def test_a_line_too_long_for_a_frame_is_cut_and_keeps_its_place():
    sample = {"seq": 3, "time": 1.0, "type": "sample", "step": 1, "completion": "x" * (2 << 20)}
    cut = json.loads(line_cut(json.dumps({**sample, "token_ids": list(range(300_000))})))
    assert (cut["seq"], cut["step"], cut["cut"]) == (3, 1, True)
    assert len(json.dumps(cut).encode()) <= LINE_BYTES
    monster = {"seq": 4, "time": 1.0, "type": "log", "lines": ["é" * 40_000] * 900}
    assert len(line_cut(json.dumps(monster)).encode()) <= LINE_BYTES


async def test_a_run_that_was_deleted_ends_its_ship_and_stays_deleted(attempt):
    """Else it would try for ever, and make the folder anew to say that it lives."""
    attempt.path.mkdir(parents=True, exist_ok=True)
    lease(attempt, 9)
    working = asyncio.create_task(Ship(attempt, lambda _: None).run())
    await asyncio.sleep(0.3)
    assert not working.done() and attempt.alive("ship").exists()
    shutil.rmtree(attempt.path.parent)
    with pytest.raises(FileNotFoundError):
        await asyncio.wait_for(working, 15)
    assert not attempt.path.parent.exists()


async def test_a_further_machine_of_a_gang_delivers_nothing_and_stays_to_the_end(attempt):
    server = Server()
    async with listening(server) as port:
        lease(attempt, port)
        told = json.loads(attempt.lease.read_text())
        write_atomic(attempt.lease, json.dumps({**told, "member": 1}))
        with Journal(attempt.journal("trainer")) as journal:
            metrics(journal, 3)
        shipping = asyncio.create_task(shipped(attempt))
        await asyncio.sleep(0.3)
        assert not shipping.done(), "host would take it for the end"
        finish(attempt)
        assert await shipping == ship.EXIT_DONE
        assert server.connections == 0


async def test_what_is_pinned_is_noted_beside_the_run_and_an_answer_without_it_changes_nothing(
    attempt, monkeypatch
):
    carrier, run = ship.Ship(attempt, lambda sentence: None), RunDir(attempt.path.parent)
    carrier._obey({"want": "run", "pins": [40, 20]})
    assert run.pins() == {20, 40}
    carrier._obey({"want": "run"})
    assert run.pins() == {20, 40}

    def full(self, steps):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "pins_write", full)
        carrier._obey({"want": "stop", "pins": []})
    assert run.pins() == {20, 40}
    assert control_read(attempt.control).want == "stop", "a full disk keeps no order back"
    carrier._obey({"want": "stop", "pins": []})
    assert run.pins() == frozenset()


async def test_what_a_playground_is_asked_is_noted_when_it_changes(attempt, monkeypatch):
    carrier = ship.Ship(attempt, lambda sentence: None)
    asked = [{"id": 1, "prompt": "x"}]
    carrier._obey({"want": "run"})
    assert not attempt.requests.exists(), "a training is asked nothing"
    carrier._obey({"want": "run", "requests": asked})
    stamp = attempt.requests.stat().st_mtime_ns
    carrier._obey({"want": "run", "requests": asked})
    carrier._obey({"want": "run"})
    assert attempt.requests.stat().st_mtime_ns == stamp
    assert json.loads(attempt.requests.read_text()) == {"requests": asked}

    def full(path, text):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ship, "write_atomic", full)
        carrier._obey({"want": "run", "requests": []})
    assert json.loads(attempt.requests.read_text()) == {"requests": asked}
    carrier._obey({"want": "run", "requests": []})
    assert json.loads(attempt.requests.read_text()) == {"requests": []}
