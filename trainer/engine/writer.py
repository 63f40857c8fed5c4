"""One piece of work at a time, in a thread beside the training or in the training's own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
LOOK = 0.2
"""Seconds between heartbeats while the training waits for the disk."""


class Writer(Generic[T]):
    """Runs what it is given; results and errors come back in the training's thread alone."""

    def __init__(self, tick: Callable[[], None], *, background: bool) -> None:
        self._tick, self._background = tick, background
        self._thread: threading.Thread | None = None
        self._results: list[T] = []
        self._error: BaseException | None = None

    def start(self, work: Callable[[], T]) -> None:
        """Begin the next piece; call `wait` before. Without a thread it is done on return."""
        assert self._thread is None
        if not self._background:
            self._results.append(work())
            return

        def run() -> None:
            try:
                self._results.append(work())
            except BaseException as error:
                self._error = error

        # A second SIGINT ends the process at once: it does not wait for this thread either.
        self._thread = threading.Thread(target=run, name="checkpoint-writer", daemon=True)
        self._thread.start()

    def wait(self) -> list[T]:
        """What was finished since the last look, once nothing is under way. Raises its error."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(LOOK)
            self._tick()
        return self.finished()

    def finished(self) -> list[T]:
        """What was finished since the last look. Raises the error of what failed."""
        if self._thread is not None and not self._thread.is_alive():
            self._thread = None
        if self._thread is None and self._error is not None:
            error, self._error = self._error, None
            raise error
        results = list(self._results)
        del self._results[: len(results)]
        return results
