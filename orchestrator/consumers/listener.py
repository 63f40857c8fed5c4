"""One LISTEN connection per web process: hints from PostgreSQL to this process's sockets.

It starts with the first socket and stops with the last. After a broken connection every consumer is
told to read again from its cursor, because what was sent in between is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import psycopg
from channels.layers import get_channel_layer
from django.db import connections

from orchestrator.services.hints import CHANNEL

if TYPE_CHECKING:
    from collections.abc import Mapping

EVERYONE = "everyone"
RUNS = "runs"
NODES = "nodes"
READY_WITHIN = 5.0  # seconds that a socket waits for the first LISTEN
PROBE_EVERY = 20.0  # seconds of silence after which the connection is asked for a sign of life
RETRY_FIRST, RETRY_LAST = 0.1, 5.0

log = logging.getLogger(__name__)


def run_group(run_id: str) -> str:
    """The group of the sockets that follow a run."""
    return f"run.{run_id}"


class Listener:
    """The LISTEN connection of one event loop."""

    def __init__(self) -> None:
        self.users = 0
        """Sockets that want hints now."""
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    async def join(self) -> None:
        """Count one more socket; return once hints arrive (or the database is known to be away)."""
        self.users += 1
        if self._task is None:
            self._ready.clear()
            self._task = asyncio.create_task(self._listen_always(), name="hints")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ready.wait(), READY_WITHIN)

    async def leave(self) -> None:
        """Count one socket less; the last one takes the connection with it."""
        self.users -= 1
        if self.users == 0 and self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _listen_always(self) -> None:
        wait, again = RETRY_FIRST, False
        while True:
            try:
                async with await _connect() as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self._ready.set()
                    if again:
                        await get_channel_layer().group_send(EVERYONE, {"type": "reread"})
                    wait = RETRY_FIRST
                    await _follow(connection)
            except (psycopg.Error, OSError) as error:
                log.warning("hints: %s; connecting again", str(error).strip() or type(error))
            again = True
            await asyncio.sleep(wait)
            wait = min(wait * 2, RETRY_LAST)


async def _connect() -> psycopg.AsyncConnection[Any]:
    # Read at each try: a database that was restarted may have moved.
    known = connections["default"].get_connection_params()
    words = {
        name: known[name]
        for name in ("dbname", "user", "password", "host", "port")
        if name in known
    }
    return await psycopg.AsyncConnection.connect(**words, autocommit=True, connect_timeout=5)


async def _follow(connection: psycopg.AsyncConnection[Any]) -> None:
    """Pass hints on until the connection breaks."""
    while True:
        async for note in connection.notifies(timeout=PROBE_EVERY):
            await fan_out(json.loads(note.payload))
        # Silence: a dead peer shows itself only when it is spoken to.
        await asyncio.wait_for(connection.execute("SELECT 1"), PROBE_EVERY)


async def fan_out(hint: Mapping[str, Any]) -> None:
    """Hand a hint to the sockets of this process that it concerns."""
    layer = get_channel_layer()
    message = {"type": "hint", "hint": dict(hint)}
    if "run" in hint:
        await layer.group_send(run_group(str(hint["run"])), message)
    if hint.get("kind") in ("run", "points"):
        await layer.group_send(RUNS, message)
    if hint.get("kind") in ("run", "node"):
        await layer.group_send(NODES, message)


_of_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Listener] = WeakKeyDictionary()


def listener() -> Listener:
    """The listener of the running event loop."""
    return _of_loop.setdefault(asyncio.get_running_loop(), Listener())
