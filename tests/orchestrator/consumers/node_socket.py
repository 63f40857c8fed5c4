"""A client of the node socket, without a server in between."""

from __future__ import annotations

import json
from typing import Any

from channels.testing import WebsocketCommunicator

from orchestrator.asgi import application


class Socket:
    """A client of the node socket."""

    def __init__(self, token: str | None, **headers: str) -> None:
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        if token is not None:
            sent.append((b"authorization", f"Bearer {token}".encode()))
        self.line = WebsocketCommunicator(application, "/ws/node/", headers=sent)

    async def open(self) -> dict[str, Any]:
        connected, _ = await self.line.connect(timeout=5)
        assert connected
        return await self.receive()

    async def receive(self) -> dict[str, Any]:
        return json.loads(await self.line.receive_from(timeout=5))  # type: ignore[no-any-return]

    async def send(self, **frame: Any) -> None:
        await self.line.send_to(text_data=json.dumps(frame))

    async def push(self, events: list[dict[str, Any]], source: str = "trainer") -> dict[str, Any]:
        await self.send(op="push", source=source, first=events[0]["seq"], events=events)
        return await self.receive()

    async def close_code(self) -> int:
        closed = await self.line.receive_output(timeout=5)
        assert closed["type"] == "websocket.close", closed
        return int(closed["code"])
