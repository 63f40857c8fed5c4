"""A generator's process as the trainer sees it: started, watched, spoken with, ended.

It is a child in the trainer's process group, so whoever ends or examines the group finds it. It asks the
system to be killed with its trainer, and ends by itself when their socket closes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trainer
from trainer.engine.beside import SPANS_MOST
from trainer.engine.failure import Failure
from trainer.engine.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.wire import Frame
    from trainer.spans import Span

ENDS_WITHIN = 3.0
"""Seconds in which an idle process notices that its socket has closed."""
QUIET, LOADING = 5.0, 900.0
"""Seconds without a word after which it is taken to be inside of something long, or hung; the second before
its first word."""


class Link:
    """One process and its socket."""

    def __init__(self, number: int, descriptors: Sequence[int], env: dict[str, str]) -> None:
        """Start it; `descriptors` are open files that it inherits under the same numbers."""
        self.number = number
        self.ready = False
        self.beat: dict[str, float] = {}
        """What it last told of itself."""
        self.spans: deque[Span] = deque(maxlen=SPANS_MOST)
        """What it told of its time that nobody has asked for; every process of a machine has one clock."""
        self._heard_at = time.monotonic()
        ours, theirs = socket.socketpair()
        root = str(Path(trainer.__file__).parents[1])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        # Ctrl-C goes to the whole group, and would meet it before it can ignore it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        with theirs:
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-m", "trainer.engine.generator_server"),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *descriptors],
                env={**os.environ, **env, "PYTHONPATH": path},
            )
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self.wire = Wire(ours)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def lively(self) -> bool:
        """Whether it spoke lately."""
        limit = QUIET if self.ready else LOADING
        return time.monotonic() - self._heard_at < limit

    def send(self, header: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; what does not go at once goes at the next `receive`."""
        self.wire.send(header, body)

    def receive(self) -> list[Frame]:
        """What has come. Raises Failure when the process has ended or says that it cannot go on."""
        self.wire.flush()
        frames = self.wire.receive()
        if frames:
            self._heard_at = time.monotonic()
        for frame in frames:
            if frame.header["op"] == "failed":
                raise Failure(frame.header["cause"], frame.header["message"])
            if frame.header["op"] == "beat":
                self.spans.extend(
                    (phase, start, end) for phase, start, end in frame.header.pop("spans")
                )
                self.beat = frame.header
        if self.wire.ended and not frames:
            raise self._ended()
        return frames

    def _ended(self) -> Failure:
        """Its end as a sentence."""
        try:
            code = self._child.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            code = None
        who = f"The process that samples answers (pid {self.pid})"
        if code is not None and code < 0:
            return Failure(
                "killed",
                f"{who} was ended by {signal.Signals(-code).name}, which nobody here sent. If the machine "
                "ran out of memory, lower rollout.replicas or rollout.max_new_tokens; the newest "
                "checkpoint stands.",
            )
        how = "closed its connection" if code is None else f"ended with exit code {code}"
        return Failure("crash", f"{who} {how}; the run's log has its last words.")

    def close(self) -> None:
        """End it, at once when it does not end by itself."""
        self.wire.close()
        try:
            self._child.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
