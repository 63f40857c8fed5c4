"""The browser's socket: snapshot by REST, then deltas from a cursor, never faster than people can see."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from channels.db import database_sync_to_async
from django.db import DatabaseError, InterfaceError

from orchestrator.consumers.frames import BAD_TOKEN, FrameConsumer, FrameError
from orchestrator.consumers.listener import EVERYONE, NODES, RUNS, listener, run_group
from orchestrator.consumers.pace import Pace
from orchestrator.consumers.watch import Watch, news_read, runs_news, watch_open
from orchestrator.services import meters

if TYPE_CHECKING:
    from collections.abc import Coroutine

log = logging.getLogger(__name__)

BROKEN = 1011  # the close code of a server that failed
NEWS_EVERY = 0.25  # seconds between two deltas of a run
RUN_EVERY = 0.5
NODES_EVERY = 1.0
SWEEP_EVERY = 5.0  # seconds after which a lost hint no longer matters
WATCHES_MOST = 50

KINDS = ("points", "log", "samples")
RUNS_ITEM = ("runs", "")
"""What is due when runs changed: they are read together, however many there are."""
NODES_ITEM = ("nodes", "")
"""What is due when nodes changed: the page asks for its cards again."""


class BrowserConsumer(FrameConsumer):
    """One open page of a signed-in person; every role may look."""

    joined = False
    listening = False

    async def connect(self) -> None:
        """Check the session, then wait for what the page wants to watch."""
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self.refuse("sign in first", BAD_TOKEN)
            return
        self.watches: dict[str, Watch] = {}
        self.all_runs = self.nodes = False
        self.changed: set[str] = set()
        self.unseen = False
        self.pace: Pace[tuple[str, str]] = Pace()
        self.tasks = [
            asyncio.create_task(self._kept(work())) for work in (self._send_due, self._sweep)
        ]
        self.joined = True
        meters.socket_opened("browser")
        await self.channel_layer.group_add(EVERYONE, self.channel_name)
        self.listening = True
        await listener().join()

    async def leave(self) -> None:
        """Stop the tasks and leave the groups."""
        if not self.joined:
            return
        meters.socket_closed("browser")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for group in (EVERYONE, RUNS, NODES, *map(run_group, self.watches)):
            await self.channel_layer.group_discard(group, self.channel_name)
        if self.listening:
            await listener().leave()

    async def frame_received(self, frame: dict[str, Any]) -> None:
        """Act on watch, unwatch and ping; anything else is refused."""
        if not self.joined:
            return
        if frame["op"] == "ping":
            await self.send_frame("pong", at=frame.get("at"), sent=time.time())
        elif frame["op"] in ("watch", "unwatch") and frame.get("topic") == "runs":
            await self._runs_watch(frame["op"] == "watch")
        elif frame["op"] in ("watch", "unwatch") and frame.get("topic") == "nodes":
            await self._nodes_watch(frame["op"] == "watch")
        elif frame["op"] == "watch" and frame.get("topic") == "run":
            await self._run_watch(frame)
        elif frame["op"] == "unwatch" and frame.get("topic") == "run":
            await self._run_unwatch(str(frame.get("run")))
        else:
            raise FrameError("use watch or unwatch with topic runs, run or nodes, or ping")

    async def hint(self, message: dict[str, Any]) -> None:
        """Note what changed; it is sent when it is due."""
        kind, run_id = message["hint"].get("kind"), str(message["hint"].get("run"))
        watch = self.watches.get(run_id)
        if kind in ("run", "node") and self.nodes:
            self.pace.mark(NODES_ITEM, NODES_EVERY)
        if kind in ("run", "points") and (watch or self.all_runs):
            self.changed.add(run_id)
            self.pace.mark(RUNS_ITEM, RUN_EVERY)
        if watch and kind in ("points", "log", "samples"):
            if kind == "samples":
                watch.samples_step = message["hint"].get("step")
            self.pace.mark((kind, run_id), NEWS_EVERY)

    async def reread(self, message: dict[str, Any]) -> None:
        """Hints were lost: read everything that is watched again from its cursor."""
        for run_id in self.watches:
            self._mark_all(run_id)
        self._mark_lists()

    async def _runs_watch(self, on: bool) -> None:
        self.all_runs = on
        change = self.channel_layer.group_add if on else self.channel_layer.group_discard
        await change(RUNS, self.channel_name)

    async def _nodes_watch(self, on: bool) -> None:
        self.nodes = on
        change = self.channel_layer.group_add if on else self.channel_layer.group_discard
        await change(NODES, self.channel_name)
        self._mark_lists()

    async def _run_watch(self, frame: dict[str, Any]) -> None:
        try:
            known = self.watches.get(str(frame.get("run")))
            watch = await database_sync_to_async(watch_open)(frame, known)
        except ValueError as error:
            raise FrameError(str(error)) from error
        if len(self.watches) >= WATCHES_MOST and watch.run_id not in self.watches:
            raise FrameError(f"one socket watches at most {WATCHES_MOST} runs")
        await self.channel_layer.group_add(run_group(watch.run_id), self.channel_name)
        self.watches[watch.run_id] = watch
        self._mark_all(watch.run_id)

    async def _run_unwatch(self, run_id: str) -> None:
        if self.watches.pop(run_id, None):
            for kind in KINDS:
                self.pace.forget((kind, run_id))
            await self.channel_layer.group_discard(run_group(run_id), self.channel_name)

    def _mark_all(self, run_id: str) -> None:
        self.changed.add(run_id)
        self.pace.mark(RUNS_ITEM, RUN_EVERY)
        for kind in ("points", "log"):
            self.pace.mark((kind, run_id), NEWS_EVERY)

    def _mark_lists(self) -> None:
        if self.all_runs:
            self.unseen = True
            self.pace.mark(RUNS_ITEM, RUN_EVERY)
        if self.nodes:
            self.pace.mark(NODES_ITEM, NODES_EVERY)

    async def _kept(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work; when it breaks, close the socket, so that the page connects anew."""
        try:
            await work
        except Exception:
            log.exception("browser socket")
            await self.close(code=BROKEN)

    async def _sweep(self) -> None:
        """A hint may be lost without anybody knowing: look by yourself now and then."""
        while True:
            await asyncio.sleep(SWEEP_EVERY)
            for run_id in self.watches:
                self._mark_all(run_id)
            self._mark_lists()

    async def _send_due(self) -> None:
        while True:
            kind, run_id = await self.pace.next()
            # The database may be away for a moment: the next hint or sweep asks again.
            with contextlib.suppress(DatabaseError, InterfaceError):
                await self._news_send(kind, run_id)

    async def _news_send(self, kind: str, run_id: str) -> None:
        if kind == "runs":
            changed, self.changed = self.changed, set()
            unseen, self.unseen = self.unseen, False
            for shape in await database_sync_to_async(runs_news)(changed, unseen):
                if self.all_runs or shape["id"] in self.watches:
                    await self.send_frame("run", run=shape, sent=time.time())
        elif kind == "nodes":
            await self.send_frame("nodes", sent=time.time())
        elif watch := self.watches.get(run_id):
            frame = await database_sync_to_async(news_read)(watch, kind)
            if frame is not None:
                await self.send_frame(**frame, sent=time.time())
