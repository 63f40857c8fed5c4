"""Ships an attempt's journals to the server: `python -m trainer.ship --dir RUN_DIR --attempt K`.

The journal is the spool and the server holds the cursor, so nothing here needs to be remembered:
whatever broke, connect again, ask where the server stands, and go on behind that line.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from trainer.beat import Beats
from trainer.control import Control
from trainer.events import JOURNALS, TERMINAL, Source
from trainer.journal import Tail
from trainer.lane import Lane
from trainer.liveness import TOUCH_EVERY, touch
from trainer.rundir import AttemptDir, RunDir, write_atomic
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from collections.abc import Callable

ORDER: tuple[Source, ...] = ("trainer", "host", "samples")
"""Metrics go first; samples are bulky and wait."""
WINDOW: dict[Source, int] = {"trainer": 4, "host": 2, "samples": 1}
"""Pushes under way at a time."""
STICKY = frozenset({"server-stopped", "fenced"})
"""Causes of a stop that was ordered on this machine: no answer of the server takes it back."""
POLL, BEAT, SILENCE = 0.04, TEMPO.ship_beat, TEMPO.ship_silence  # seconds
PROGRESS = 2 * SILENCE
BACKOFF_FIRST, BACKOFF_MOST = 0.2, TEMPO.ship_backoff
BAD_FRAME, REFUSED_TOKEN, REFUSED_FENCED = 4400, 4401, 4409
EXIT_DONE, EXIT_REFUSED = 0, 3


class Refused(Exception):
    """The server will never take this attempt's lines."""

    def __init__(self, code: int, error: str) -> None:
        self.code = code
        super().__init__(error)


class Broken(Exception):
    """This connection is of no more use; another one may be."""


class Ship:
    """Keeps one attempt's journals and the server equal until all is delivered."""

    def __init__(self, attempt: AttemptDir, say: Callable[[str], None]) -> None:
        self.attempt = attempt
        self.say = say
        self.lanes = {
            source: Lane(source, Tail(attempt.journal(source)), WINDOW[source])
            for source in JOURNALS
        }
        self.ended = EndOfJournals(attempt)
        self.ordered: Control | None = None
        self.pinned: list[int] | None = None
        self.asked: list[dict[str, Any]] | None = None
        self.useful = False
        """Whether the newest connection moved a cursor."""
        self.done_sent = False
        self.beats = Beats(attempt)
        self.unanswered: deque[tuple[dict[Source, int], bool]] = deque()
        """Of each beat without an answer: the pushes asked before it, and whether done was."""
        self.heard = self.progress = self.beat_at = 0.0

    async def run(self) -> int:
        """Connect, deliver, and connect again until everything has arrived. Returns the exit code."""
        living = asyncio.create_task(self._live())
        try:
            return await self._run()
        finally:
            living.cancel()

    async def _live(self) -> None:
        """Say that the loop turns: host ends and replaces a ship that stands still."""
        while True:
            touch(self.attempt.alive("ship"))
            await asyncio.sleep(TOUCH_EVERY)

    async def _run(self) -> int:
        if json.loads(self.attempt.lease.read_text()).get("member"):
            return await self._keep_still()
        pause = BACKOFF_FIRST
        while True:
            try:
                if await self._session():
                    return EXIT_DONE
            except Refused as refusal:
                self._refused(refusal)
                return EXIT_REFUSED
            except FileNotFoundError:
                # The run was deleted: there is nothing left to deliver, and nobody who would wait for it.
                raise
            except (Broken, ConnectionClosed, InvalidHandshake, OSError, TimeoutError) as error:
                self.say(f"no connection ({type(error).__name__}: {error})")
            if self.useful:
                pause = BACKOFF_FIRST
            await asyncio.sleep(pause)
            pause = min(BACKOFF_MOST, pause * 2)

    async def _keep_still(self) -> int:
        """The first machine of a gang speaks for all: wait until host has come to the end, and deliver nothing."""
        while not self.ended.look():
            await asyncio.sleep(TOUCH_EVERY)
        return EXIT_DONE

    async def _session(self) -> bool:
        """One connection; True when the server has everything."""
        self.useful = False
        # Read again each time: a server that came back on another port rewrites it.
        lease = json.loads(self.attempt.lease.read_text())
        async with connect(
            lease["server"].rstrip("/") + "/ws/node/",
            additional_headers={"Authorization": f"Bearer {lease['token']}"},
            max_size=4 << 20,
            compression=None,
            open_timeout=10,
            close_timeout=2,
            proxy=None,
        ) as socket:
            hello = await self._receive(socket, within=10)
            if hello.get("op") != "hello":
                raise Broken(f"expected hello, got {hello.get('op')!r}")
            for source, lane in self.lanes.items():
                lane.begin(int(hello["cursors"].get(source, 0)))
            self.say(f"connected; the server has {hello['cursors']}")
            self._obey(hello)
            self.heard = self.progress = self.beat_at = time.monotonic()
            self.done_sent = False
            self.unanswered.clear()
            reader = asyncio.create_task(self._read(socket))
            try:
                return await self._deliver(socket, reader)
            finally:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await reader

    async def _deliver(self, socket: ClientConnection, reader: asyncio.Task[bool]) -> bool:
        try:
            while not reader.done():
                ended = self.ended.look()
                sent = await self._push_turn(socket)
                await self._beat(socket)
                if sent:
                    await asyncio.sleep(0)
                    continue
                # The journals had ended before this turn found nothing to read: nothing is left.
                drained = all(lane.drained for lane in self.lanes.values())
                self.done_sent = self.done_sent and drained
                if ended and drained and not self.done_sent:
                    counts = {source: lane.cursor for source, lane in self.lanes.items()}
                    await self._send(socket, json.dumps({"op": "done", "counts": counts}))
                    self.done_sent = True
                self._check_answers(time.monotonic())
                await asyncio.wait({reader}, timeout=POLL)
        except ConnectionClosed:
            # The reader knows why: a refusal is not a broken line.
            return await reader
        return reader.result()

    async def _push_turn(self, socket: ClientConnection) -> bool:
        """Offer each journal one push, metrics first; whether any went out."""
        sent = False
        careful = [source for source in ORDER if self.lanes[source].careful]
        if careful and any(lane.in_flight for lane in self.lanes.values()):
            return False
        # After a refusal one line at a time: the next refusal then names its line.
        for source in careful[:1] or ORDER:
            if (frame := self.lanes[source].next_frame()) is not None:
                await self._send(socket, frame)
                sent = True
        return sent

    async def _beat(self, socket: ClientConnection) -> None:
        """Give a sign of life now and then, also while pushes go out: its answer shows what got lost."""
        if time.monotonic() - self.beat_at > BEAT:
            self.beat_at = time.monotonic()
            asked = {source: lane.asked for source, lane in self.lanes.items()}
            self.unanswered.append((asked, self.done_sent))
            await self._send(socket, self.beats.frame())

    def _beat_answered(self) -> None:
        """Answers come in the order of the questions: what was asked before a beat is answered by now."""
        if not self.unanswered:
            return
        asked, done = self.unanswered.popleft()
        if any(self.lanes[source].answered < count for source, count in asked.items()):
            raise Broken("a push or its answer got lost on the way")
        self.done_sent = self.done_sent and not done

    def _check_answers(self, now: float) -> None:
        waiting = any(lane.in_flight for lane in self.lanes.values())
        if now - self.heard > SILENCE:
            raise Broken(f"the server has not answered for {SILENCE:.0f} s")
        if waiting and now - self.progress > PROGRESS:
            raise Broken(f"the server has taken nothing for {PROGRESS:.0f} s")
        if not waiting:
            self.progress = now

    async def _send(self, socket: ClientConnection, frame: str) -> None:
        await asyncio.wait_for(socket.send(frame), SILENCE)

    async def _read(self, socket: ClientConnection) -> bool:
        """Take the server's answers until it says bye."""
        while True:
            answer = await self._receive(socket)
            self.heard = time.monotonic()
            if answer.get("op") == "bye":
                return True
            if "sent" in answer:
                self.beats.answered(answer)
            if answer.get("op") == "ack" and "source" in answer:
                lane = self.lanes.get(answer["source"])
                if lane is not None and lane.acked(int(answer["cursor"])):
                    self.progress = self.heard
                    self.useful = True
            elif answer.get("op") == "ack":
                self._beat_answered()
            self._obey(answer)

    async def _receive(self, socket: ClientConnection, within: float | None = None) -> Any:
        try:
            async with asyncio.timeout(within):
                answer = json.loads(await socket.recv())
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else 0
            if code in (REFUSED_TOKEN, REFUSED_FENCED):
                raise Refused(code, closed.rcvd.reason if closed.rcvd else "") from closed
            raise
        if answer.get("op") == "refused":
            return await self._refusal(socket, str(answer.get("error", "")))
        return answer

    async def _refusal(self, socket: ClientConnection, error: str) -> Any:
        """The close code behind a refusal says whether to come back."""
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(5):
                while True:
                    await socket.recv()
        if socket.close_code in (REFUSED_TOKEN, REFUSED_FENCED):
            raise Refused(socket.close_code, error)
        if socket.close_code == BAD_FRAME:
            for lane in self.lanes.values():
                lane.suspect()
        raise Broken(f"refused: {error}")

    def _pins_note(self, pins: list[int]) -> None:
        """Write which checkpoints are to stay, when that changed. Beats bring it, answers to pushes do not."""
        if pins == self.pinned:
            return
        try:
            RunDir(self.attempt.path.parent).pins_write(pins)
        except OSError as error:
            self.say(f"cannot note what is pinned: {error}")
            return
        self.pinned = pins

    def _requests_note(self, requests: list[dict[str, Any]]) -> None:
        """Write what a playground is asked, when that changed."""
        if requests == self.asked:
            return
        try:
            write_atomic(self.attempt.requests, json.dumps({"requests": requests}))
        except OSError as error:
            self.say(f"cannot note what is asked: {error}")
            return
        self.asked = requests

    def _obey(self, answer: dict[str, Any]) -> None:
        """Write what people want to the control file, when it changed."""
        if "want" not in answer:
            return
        if "pins" in answer:
            self._pins_note(answer["pins"])
        if "requests" in answer:
            self._requests_note(answer["requests"])
        order = Control(
            want=answer["want"],
            cause=answer.get("cause") or "user",
            message=answer.get("message") or "",
            knobs=answer.get("knobs") or {},
            asks=answer.get("asks") or {},
            on_stall=str(answer.get("on_stall") or "tell"),
        )
        if order == self.ordered:
            return
        standing = control_read(self.attempt.control)
        if order == standing or (standing.want == "stop" and standing.cause in STICKY):
            self.ordered = order
            return
        try:
            order.write(self.attempt.control)
        except OSError as error:
            # The disk is full: the lines go on their way all the same, and the next answer says it again.
            self.say(f"cannot note what is wanted: {error}")
            return
        self.ordered = order
        self.say(f"wanted: {order.want} {order.message}".rstrip())

    def _refused(self, refusal: Refused) -> None:
        self.say(f"refused for good ({refusal.code}): {refusal}")
        if refusal.code == REFUSED_FENCED:
            Control("stop", "fenced", str(refusal) or "a newer attempt took over").write(
                self.attempt.control
            )


class EndOfJournals:
    """Watches for the last line of host.jsonl: a terminal status, after which nobody writes."""

    def __init__(self, attempt: AttemptDir) -> None:
        self.tail = Tail(attempt.journal("host"))
        self.reached = False

    def look(self) -> bool:
        """Whether host has written its terminal status."""
        while not self.reached and (lines := self.tail.read()):
            for line in lines:
                if '"type":"status"' in line:
                    self.reached = json.loads(line).get("state") in TERMINAL
        return self.reached


def control_read(path: Path) -> Control:
    """What the control file orders now; nothing special while there is none."""
    try:
        return Control(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return Control()


def delivered_path(attempt: AttemptDir) -> Path:
    """Where `ship` notes that nothing is left to deliver, and why."""
    return attempt.path / "delivered.json"


def main(argv: list[str] | None = None) -> int:
    """Ship one attempt; the exit code says whether everything arrived."""
    parser = argparse.ArgumentParser(prog="python -m trainer.ship", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the run's directory")
    parser.add_argument("--attempt", type=int, required=True, help="number of the attempt")
    arguments = parser.parse_args(argv)
    attempt = RunDir(arguments.dir).attempt(arguments.attempt)
    said = deque([""], maxlen=1)

    def say(sentence: str) -> None:
        # A server that stays away for a day is one line, not thousands.
        if said[0] != sentence:
            said.append(sentence)
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {sentence}", file=sys.stderr, flush=True)

    try:
        code = asyncio.run(Ship(attempt, say).run())
    except (InvalidURI, FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        say(f"lease.json does not say where to ship to: {type(error).__name__}: {error}")
        return EXIT_REFUSED
    say("everything is delivered" if code == EXIT_DONE else "giving up")
    outcome = {"delivered": code == EXIT_DONE, "time": time.time()}
    write_atomic(delivered_path(attempt), json.dumps(outcome))
    return code


if __name__ == "__main__":
    sys.exit(main())
