"""The network between one node and the server: it can be cut, silently or with resets, and be slow."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 1 << 16
LOOK_EVERY = 0.05


class Roads:
    """One event loop, in a thread of its own, for the roads of all nodes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="roads", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def close(self) -> None:
        """End all of them."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Road:
    """Listens on a port of its own in front of the server's."""

    def __init__(self, roads: Roads, server_port: Callable[[], int]) -> None:
        self.roads = roads
        self.server_port = server_port
        self.cut = ""
        """"silent", "reset", or "" while it is open."""
        self.latency = 0.0
        """Seconds that each piece takes."""
        self.spoke = 0.0
        """When bytes of the node were last handed to the server (time.monotonic)."""
        self._writers: set[asyncio.StreamWriter] = set()
        starting = asyncio.run_coroutine_threadsafe(self._listen(), roads.loop)
        self.port = starting.result(10)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    def close_road(self, how: str) -> None:
        """Cut it."""
        self.cut = how
        if how == "reset":
            self.roads.loop.call_soon_threadsafe(self._reset)

    def open_road(self) -> None:
        """Let everything pass again: what waited in silence goes on, as TCP does."""
        self.cut, self.latency = "", 0.0

    def _reset(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        theirs = None
        try:
            if self.cut == "reset":
                return
            await self._passable()
            theirs = await asyncio.open_connection("127.0.0.1", self.server_port())
            self._writers.add(theirs[1])
            ways = [
                asyncio.create_task(self._way(reader, theirs[1], up=True)),
                asyncio.create_task(self._way(theirs[0], writer, up=False)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            # What the other side still has to say.
            await asyncio.wait(ways, timeout=0.3)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, KeyError):
            pass
        finally:
            for one in (writer, theirs[1] if theirs else None):
                if one is not None:
                    self._writers.discard(one)
                    one.transport.abort()

    async def _way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.latency:
                    await asyncio.sleep(self.latency)
                await self._passable()
                writer.write(data)
                if up:
                    self.spoke = time.monotonic()
                await writer.drain()

    async def _passable(self) -> None:
        while self.cut == "silent":
            await asyncio.sleep(LOOK_EVERY)
