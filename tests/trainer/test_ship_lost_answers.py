"""What gets lost on a connection that stays open is noticed by the next beat, not by a long silence."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.trainer.test_ship import Server, attempt, finish, lease, listening, metrics, shipped
from trainer import ship
from trainer.journal import Journal

__all__ = ["attempt"]


class Forgetful(Server):
    """Loses one push of samples, or its first `ack` or `bye`."""

    def __init__(self, loses: str) -> None:
        super().__init__()
        self.loses = loses
        self.lost = 0

    async def handle(self, socket) -> None:
        send = socket.send

        async def maybe(text: str) -> None:
            if json.loads(text)["op"] == self.loses and not self.lost:
                self.lost += 1
                return
            await send(text)

        socket.send = maybe
        await super().handle(socket)

    async def push(self, socket, frame) -> None:
        if self.loses == "push" and not self.lost and frame["source"] == "samples":
            self.lost += 1
            return
        await super().push(socket, frame)


@pytest.mark.parametrize("loses", ["push", "ack", "bye"])
async def test_a_lost_frame_costs_a_beat_and_no_line(attempt, monkeypatch, loses):
    monkeypatch.setattr(ship, "BEAT", 0.2)
    server = Forgetful(loses)
    with (
        Journal(attempt.journal("trainer")) as trainer,
        Journal(attempt.journal("samples")) as samples,
    ):
        metrics(trainer, 3)
        samples.append("sample", step=1)
        async with listening(server) as port:
            lease(attempt, port)
            sending = asyncio.create_task(shipped(attempt, within=10))
            # Metrics go on without a pause: the lost push is noticed all the same.
            for _ in range(20):
                metrics(trainer, 1)
                await asyncio.sleep(0.05)
            if loses != "bye":
                assert server.connections > 1
            finish(attempt)
            assert await sending == ship.EXIT_DONE
    assert server.lost == 1
    assert server.seqs("trainer") == list(range(1, 24))
    assert server.seqs("samples") == [1]


async def test_a_slow_server_is_not_taken_for_one_that_loses_frames(attempt, monkeypatch):
    monkeypatch.setattr(ship, "BEAT", 0.05)

    class Slow(Server):
        async def push(self, socket, frame) -> None:
            await asyncio.sleep(0.3)
            await super().push(socket, frame)

    server = Slow()
    with Journal(attempt.journal("trainer")) as trainer:
        metrics(trainer, 5)
    finish(attempt)
    async with listening(server) as port:
        lease(attempt, port)
        assert await shipped(attempt) == ship.EXIT_DONE
    assert server.connections == 1
