"""What a socket has sent and nobody has read yet: bounded, because the queue in front of us is not.

daphne hands every frame on as it comes, however far the consumer has got. A peer that never waits for an
answer would fill the memory of the web process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Message = dict[str, Any]

FRAMES_MOST = 256
SIZE_MOST = 8 << 20
"""Characters; `ship` has at most seven pushes of a MiB under way."""
FLOOD = 4429  # close code


class Intake:
    """Takes messages in as they come; past the bounds it drops them all and says so once."""

    def __init__(self, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._waiting: deque[Message] = deque()
        self._size = 0
        self._flooded = False
        self._came = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._take(), name="intake")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def next(self) -> Message:
        """The next message in order; `websocket.flood` when the peer has sent too much at once."""
        while not self._waiting:
            self._came.clear()
            await self._came.wait()
        message = self._waiting.popleft()
        self._size -= size_of(message)
        return message

    async def _take(self) -> None:
        while True:
            message = await self._receive()
            frame = message["type"] == "websocket.receive"
            if frame and not self._flooded:
                self._put(message)
                if len(self._waiting) > FRAMES_MOST or self._size > SIZE_MOST:
                    self._flooded = True
                    self._waiting.clear()
                    self._size = 0
                    self._put({"type": "websocket.flood"})
            elif not frame:
                self._put(message)

    def _put(self, message: Message) -> None:
        self._waiting.append(message)
        self._size += size_of(message)
        self._came.set()


def size_of(message: Message) -> int:
    """Characters or bytes of a frame."""
    return len(message.get("text") or message.get("bytes") or "")
