"""What people want of this run: the control file, signals, and the fence of a newer attempt."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

from trainer.control import ControlReader
from trainer.engine.failure import Halt

if TYPE_CHECKING:
    from types import FrameType

    from trainer.control import Control
    from trainer.rundir import AttemptDir, RunDir

INTERVAL = 0.2
"""Seconds between looks at the control file while a step is under way."""
FENCE_INTERVAL = 2.0


class Orders:
    """Reads orders; `check` raises Halt where the run is to stop or to pause."""

    def __init__(self, run: RunDir, attempt: AttemptDir) -> None:
        self._run = run
        self._attempt = attempt
        self._reader = ControlReader(attempt.control)
        self._signal = ""
        self._next_look = 0.0
        self._next_fence_look = 0.0
        self.fenced = False

    def listen(self) -> None:
        """SIGINT and SIGTERM stop the run with a checkpoint; a second SIGINT ends it at once."""
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self._signal = name
        print(f"{name}: stopping with a checkpoint", file=sys.stderr, flush=True)

    def control(self) -> Control:
        """The control file as it stands."""
        return self._reader.read()

    def given(self) -> Control | None:
        """The newest order; None where nobody has given one."""
        return self._reader.given()

    def agree(self, elapsed: float, norm: float) -> float:
        """Settle what holds for a turn of the loop; returns the seconds of training that count.

        Given are those of this process, and the norm of its last gradient. One process agrees with itself.
        """
        return elapsed

    def check(self, *, now: bool = False) -> None:
        """Raise Halt when the run is to end. Cheap: the file is looked at a few times a second."""
        moment = time.monotonic()
        if not (now or self._signal or moment >= self._next_look):
            return
        self._next_look = moment + INTERVAL
        order = self.control()
        if order.want == "stop":
            self.fenced = self.fenced or order.cause == "fenced"
            raise Halt("stopped", order.cause, order.message or "stopped on request")
        if moment >= self._next_fence_look:
            self._next_fence_look = moment + FENCE_INTERVAL
            self.check_fence()
        if order.want == "pause":
            raise Halt("paused", order.cause, order.message or "paused on request")
        if self._signal:
            raise Halt("stopped", "user", f"stopped by {self._signal}")

    def check_fence(self) -> None:
        """Raise Halt when a newer attempt has taken over; this one then publishes nothing."""
        newest = max(self._run.attempts(), default=0)
        if newest > self._attempt.number:
            self.fenced = True
            raise Halt("stopped", "fenced", f"attempt {newest} has taken over")
