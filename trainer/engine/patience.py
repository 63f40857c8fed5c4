"""While somebody's reward works, the run is heard of, can be stopped, and waits only so long.

A reward is code that the engine does not know: it may compute for minutes, or never come back. A timer
interrupts it in the main thread, where Python code, sleeps and waits for a network end on an exception.
What ignores even that (a loop in a library) is ended by host, as a trainer that does not obey.
"""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.engine.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

LOOK = 0.5
"""Seconds between looks at a reward that is still working."""


class TimedOut(Failure):
    """A reward has worked for longer than it may."""


class Patience:
    """Interrupts a reward to tick, and to give it up. Use as a context around the scoring of a batch."""

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._label, self._limit, self._end = "", 0.0, 0.0
        self._inside = False
        self._raised: Exception | None = None

    def __enter__(self) -> Patience:
        # Signals reach the main thread alone; elsewhere rewards are waited for.
        self._watches = threading.current_thread() is threading.main_thread()
        if self._watches:
            self._before = signal.signal(signal.SIGALRM, self._look)
            signal.setitimer(signal.ITIMER_REAL, LOOK, LOOK)
        return self

    def __exit__(self, *_: object) -> None:
        if self._watches:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    @contextmanager
    def wait(self, label: str, seconds: float) -> Iterator[None]:
        """Around one call of a reward. Raises Failure when it takes longer than `seconds`, and whatever
        `tick` raised meanwhile, also where the reward's own code has caught it."""
        self._label, self._limit, self._end = label, seconds, time.monotonic() + seconds
        self._raised = None
        self._inside = True
        try:
            yield
        except Exception:
            self._inside = False
            if self._raised is not None:
                raise self._raised from None
            raise
        finally:
            self._inside = False
        if self._raised is not None:
            raise self._raised

    def _look(self, number: int, frame: FrameType | None) -> None:
        """Between two rewards nothing is done: what the engine does then must not be interrupted."""
        if not self._inside:
            return
        self._inside = False
        try:
            self._tick()
            if time.monotonic() > self._end:
                raise TimedOut(
                    "bad-input",
                    f"rewards: {self._label} has worked for more than {self._limit:g} s on one call; "
                    "see why it hangs, or raise its `time_limit`",
                )
        except Exception as error:
            # Kept, as the reward may catch it: a bare `except` there must not keep the run from ending.
            self._raised = error
            raise
        finally:
            self._inside = True
