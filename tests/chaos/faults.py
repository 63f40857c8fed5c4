"""A broken network between `ship` and the server: frames are dropped, doubled, swapped, delayed and torn.

It reads websocket frames as they pass (RFC 6455 section 5.2) and knows nothing of what is in them. The
faults of the n-th connection follow from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from dataclasses import dataclass

DATA = frozenset({0x1, 0x2})  # opcodes of text and binary frames
DELAY_MOST = 0.4  # seconds


@dataclass(frozen=True)
class Rates:
    """How often each fault happens to a frame."""

    drop: float = 0.004
    double: float = 0.006
    swap: float = 0.004
    delay: float = 0.02
    tear: float = 0.003


CALM = Rates(0, 0, 0, 0, 0)


class Torn(Exception):
    """The connection ends in the middle of a frame."""


class FaultProxy:
    """Listens on a port of its own, in a thread of its own, in front of the server's port."""

    def __init__(self, port: int, seed: int, rates: Rates | None = None) -> None:
        self.server_port = port
        self.seed = seed
        self.rates = rates or Rates()
        self.done: Counter[str] = Counter()
        """Faults so far, by name; "frame" counts all frames."""
        self.port = 0
        self._connections = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="faults", daemon=True)

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        listening = asyncio.start_server(self._connected, "127.0.0.1", 0)
        server = self._loop.run_until_complete(listening)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        chance = random.Random(f"{self.seed}-{self._connections}")
        try:
            theirs = await asyncio.open_connection("127.0.0.1", self.server_port)
        except OSError:
            writer.transport.abort()
            return
        ways = [
            asyncio.create_task(self._way(reader, theirs[1], random.Random(chance.random()))),
            asyncio.create_task(self._way(theirs[0], writer, random.Random(chance.random()))),
        ]
        # Cancelled at the end of the storm: nobody asks this task what became of it.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            # What the other side still has to say, such as the close frame's answer.
            await asyncio.wait(ways, timeout=0.2)
        try:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        finally:
            writer.transport.abort()
            theirs[1].transport.abort()

    async def _way(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random
    ) -> None:
        """Pass one direction on: the handshake as it is, then frame by frame."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, Torn):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            held = b""
            while True:
                opcode, frame = await frame_read(reader)
                self.done["frame"] += 1
                fault = self._fault(opcode, chance)
                if fault == "drop":
                    continue
                if fault == "tear":
                    writer.write(held + frame[: chance.randrange(1, len(frame))])
                    await writer.drain()
                    raise Torn
                if fault == "delay":
                    await asyncio.sleep(chance.uniform(0, DELAY_MOST))
                if fault == "swap" and not held:
                    held = frame
                    continue
                writer.write(frame * (2 if fault == "double" else 1) + held)
                held = b""
                await writer.drain()

    def _fault(self, opcode: int, chance: random.Random) -> str:
        if opcode not in DATA:
            return ""
        throw = chance.random()
        for name in ("drop", "double", "swap", "delay", "tear"):
            throw -= getattr(self.rates, name)
            if throw < 0:
                self.done[name] += 1
                return name
        return ""


async def frame_read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One frame: its opcode, and all its bytes as they came."""
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    more = b""
    if length >= 126:
        more = await reader.readexactly(2 if length == 126 else 8)
        length = int.from_bytes(more, "big")
    mask = 4 if head[1] & 0x80 else 0
    return head[0] & 0x0F, head + more + await reader.readexactly(mask + length)
