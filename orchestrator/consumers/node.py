"""The node's socket: `ship` pushes journals, the server answers cursors and what people want."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from channels.db import database_sync_to_async

from orchestrator.consumers.frames import BAD_FRAME, BAD_TOKEN, FrameConsumer, FrameError
from orchestrator.consumers.listener import EVERYONE, listener, run_group
from orchestrator.selectors.streams import cursors_of
from orchestrator.services import beats, ingest, meters, stream_health
from orchestrator.services.entries import FRAME_BYTES, TIME_END
from orchestrator.services.tokens import lease_check

if TYPE_CHECKING:
    from orchestrator.models import Attempt


class NodeConsumer(FrameConsumer):
    """One connection of one attempt."""

    frame_bytes = FRAME_BYTES
    attempt: Attempt | None = None
    counted = False
    listening = False

    async def connect(self) -> None:
        """Check the lease token, then say how far each journal is stored."""
        await self.accept()
        attempt = await database_sync_to_async(lease_check)(_bearer(self.scope))
        if attempt is None:
            await self.refuse("the lease token is unknown or was taken back", BAD_TOKEN)
            return
        self.attempt = attempt
        self.of_attempt = {"run_id": attempt.run_id, "attempt": attempt.number}
        await self.channel_layer.group_add(run_group(attempt.run_id), self.channel_name)
        await self.channel_layer.group_add(EVERYONE, self.channel_name)
        self.listening = True
        await listener().join()
        meters.socket_opened("node")
        self.counted = True
        await self._greet()

    async def leave(self) -> None:
        """Leave the groups."""
        if self.attempt is not None:
            await self.channel_layer.group_discard(
                run_group(self.attempt.run_id), self.channel_name
            )
            await self.channel_layer.group_discard(EVERYONE, self.channel_name)
        if self.listening:
            await listener().leave()
        if self.counted:
            meters.socket_closed("node")
            await database_sync_to_async(stream_health.counts_write)(**self.of_attempt)

    async def frame_received(self, frame: dict[str, Any]) -> None:
        """Act on push, beat and done; anything else is refused."""
        if self.attempt is None:
            return
        act = {"push": self._push, "beat": self._beat, "done": self._done}.get(frame["op"])
        if act is None:
            raise FrameError(f"'{frame['op'][:40]}' is not an op; use push, beat or done")
        try:
            await act(frame)
        except ingest.PushError as error:
            await self.refuse(str(error), BAD_FRAME)

    async def hint(self, message: dict[str, Any]) -> None:
        """Pass on at once what people changed."""
        if message["hint"].get("kind") == "want":
            await self._want_send()

    async def reread(self, message: dict[str, Any]) -> None:
        """Hints were lost: say again what people want."""
        await self._want_send()

    async def _greet(self) -> None:
        cursors = await database_sync_to_async(cursors_of)(**self.of_attempt)
        want = await database_sync_to_async(ingest.beat)(**self.of_attempt)
        run_id, number = self.of_attempt["run_id"], self.of_attempt["attempt"]
        await self.send_frame("hello", run=run_id, attempt=number, cursors=cursors, **want)

    async def _push(self, frame: dict[str, Any]) -> None:
        arrived = time.perf_counter()
        source, first = str(frame.get("source")), frame.get("first")
        ack = await database_sync_to_async(ingest.push_ingest)(
            **self.of_attempt, source=source, first=first, events=frame.get("events")
        )
        await self.send_frame("ack", source=source, cursor=ack.cursor, **ack.want)
        meters.ack_timed(time.perf_counter() - arrived)

    async def _beat(self, frame: dict[str, Any]) -> None:
        arrived = time.time()
        await database_sync_to_async(beats.beat_note)(
            **self.of_attempt, journals=frame.get("journals"), clock=frame.get("clock")
        )
        want = await database_sync_to_async(ingest.beat)(**self.of_attempt)
        sent = frame.get("sent")
        # By these two moments and its own two, ship tells how far its clock is from this one.
        clocks = {"sent": sent, "clock": [arrived, time.time()]} if _is_moment(sent) else {}
        await self.send_frame("ack", **want, **clocks)

    async def _done(self, frame: dict[str, Any]) -> None:
        counts = frame.get("counts")
        if not isinstance(counts, dict):
            raise FrameError("counts must be an object of line counts by source")
        short = await database_sync_to_async(ingest.stream_done)(**self.of_attempt, counts=counts)
        want = await database_sync_to_async(ingest.beat)(**self.of_attempt) if short else {}
        for source, cursor in short.items():
            await self.send_frame("ack", source=source, cursor=cursor, **want)
        if not short:
            await self.send_frame("bye")

    async def _want_send(self) -> None:
        want = await database_sync_to_async(ingest.beat)(**self.of_attempt)
        await self.send_frame("want", **want)


def _is_moment(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < TIME_END


def _bearer(scope: dict[str, Any]) -> str:
    """The token of the Authorization header, or ""."""
    for name, value in scope["headers"]:
        scheme, _, token = value.decode("latin-1").partition(" ")
        if name == b"authorization" and scheme.lower() == "bearer":
            return str(token.strip())
    return ""
