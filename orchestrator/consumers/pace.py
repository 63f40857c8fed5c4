"""When each thing that changed may be sent: at once the first time, then at most every so often."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    Item = TypeVar("Item", bound=Hashable)
else:
    Item = TypeVar("Item")


class Pace(Generic[Item]):
    """Marks of things that changed, handed out one at a time when they are due."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due: dict[Item, float] = {}
        self._sent: dict[Item, float] = {}
        self._woken = asyncio.Event()

    def mark(self, item: Item, every: float) -> None:
        """Say that `item` changed; it is due `every` seconds after it was last handed out."""
        if item not in self._due:
            now = self._clock()
            self._due[item] = max(now, self._sent.get(item, now - every) + every)
            self._woken.set()

    def forget(self, item: Item) -> None:
        """Drop what is known of `item`."""
        self._due.pop(item, None)
        self._sent.pop(item, None)

    async def next(self) -> Item:
        """Wait for the next due item and take its mark away."""
        while True:
            self._woken.clear()
            item = min(self._due, key=self._due.__getitem__, default=None)
            wait = None if item is None else self._due[item] - self._clock()
            if item is not None and wait is not None and wait <= 0:
                del self._due[item]
                self._sent[item] = self._clock()
                return item
            try:
                await asyncio.wait_for(self._woken.wait(), wait)
            except TimeoutError:
                continue
