"""JSON frames of both sockets: bounded, strict, one object each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson
from channels.generic.websocket import AsyncWebsocketConsumer
from django.core.serializers.json import DjangoJSONEncoder

from orchestrator.consumers.intake import FLOOD, Intake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BAD_FRAME, BAD_TOKEN = 4400, 4401  # close codes


class FrameError(ValueError):
    """A frame that is not what the protocol says; the text tells its sender why."""


def frame_read(text: str | None, *, most: int) -> dict[str, Any]:
    """The object in a text frame. Raises FrameError for anything else."""
    if text is None:
        raise FrameError("frames are text, this one is binary")
    # Characters count at most four bytes each: short texts need no exact count.
    if len(text) * 4 > most and len(text.encode("utf-8", "surrogatepass")) > most:
        raise FrameError(f"the frame is larger than {most} bytes")
    frame = _json_read(text)
    if not isinstance(frame, dict) or not isinstance(frame.get("op"), str):
        raise FrameError('a frame is an object with an "op"')
    return frame


def _json_read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        # Slower, and more lenient: halves of characters and numbers past the end of floats are for those
        # to judge who read the frame.
        try:
            return json.loads(text, parse_constant=_constant_refuse)
        except (ValueError, RecursionError) as error:
            raise FrameError(f"the frame is not JSON: {str(error)[:200]}") from error


def _constant_refuse(name: str) -> None:
    raise ValueError(f'{name} is no JSON; send the string "{name}"')


class FrameConsumer(AsyncWebsocketConsumer):
    """A socket that speaks JSON objects."""

    frame_bytes = 64 * 1024
    refused = False
    """What a refused socket still sends is not read."""
    left = False

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Serve the socket, and leave everything joined however that ends."""
        async with Intake(receive) as intake:
            try:
                await super().__call__(scope, intake.next, send)
            finally:
                await self.disconnect(1011)

    async def disconnect(self, code: int) -> None:
        """Leave once: an error in a handler ends the socket before its disconnect is read."""
        if not self.left:
            self.left = True
            await self.leave()

    async def leave(self) -> None:
        """Give back what the socket joined."""

    async def websocket_flood(self, message: dict[str, Any]) -> None:
        """The intake has dropped what came too fast."""
        if not self.refused:
            await self.refuse("too many frames at once: wait for the answers", FLOOD)

    async def send_frame(self, op: str, **fields: Any) -> None:
        """Send one object."""
        frame = {"op": op, **fields}
        await self.send(
            text_data=json.dumps(
                frame, cls=DjangoJSONEncoder, allow_nan=False, separators=(",", ":")
            )
        )

    async def refuse(self, sentence: str, code: int) -> None:
        """Say why, then close."""
        self.refused = True
        await self.send_frame("refused", error=sentence)
        await self.close(code=code)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Read a frame and hand it to `frame_received`; a bad one closes the socket."""
        if self.refused:
            return
        try:
            await self.frame_received(frame_read(text_data, most=self.frame_bytes))
        except FrameError as error:
            await self.refuse(str(error), BAD_FRAME)

    async def frame_received(self, frame: dict[str, Any]) -> None:
        """Act on a frame; FrameError refuses it."""
        raise NotImplementedError
