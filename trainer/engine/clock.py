"""Where a step's time goes: exclusive phases, so that the parts sum to the step."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trainer.spans import Lap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trainer.spans import Span

PARTS = ("data", "rollout", "reward", "logprob", "update", "sync", "eval", "checkpoint", "other")


class Clock:
    """Adds wall time to the phase it is in; `other` is where nothing else is named."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._part = "other"
        self._since = time.perf_counter()
        self.entered: Callable[[str], None] | None = None
        """Is told of each part that begins or goes on."""
        self.spans: list[Span] = []
        """Which part was at work when, in the lap that ended last."""
        self.folded = 0
        """How many spans of that lap were too many to be told one by one."""
        self._lap, self._began = Lap(), self._since

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time in here as `name`; an inner part takes its own time away from the outer one."""
        outer = self._switch(name)
        try:
            yield
        finally:
            self._switch(outer)

    def spent(self, name: str) -> float:
        """Seconds in a part since the last lap."""
        self._switch(self._part)
        return self._spent.get(name, 0.0)

    def lap(self) -> dict[str, float]:
        """`time/*` since the last lap, the sum as `time/step`; starts the next lap."""
        self._switch(self._part)
        values = {f"time/{name}": seconds for name, seconds in self._spent.items()}
        values["time/step"] = sum(self._spent.values())
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._lap.add(self._part, self._began, self._since)
        self.spans, self.folded = self._lap.spans(), self._lap.folded
        self._lap, self._began = Lap(), self._since
        return values

    def _switch(self, name: str) -> str:
        now = time.perf_counter()
        before, self._part = self._part, name
        self._spent[before] = self._spent.get(before, 0.0) + now - self._since
        self._since = now
        if name != before:
            self._lap.add(before, self._began, now)
            self._began = now
            if self.entered is not None:
                self.entered(name)
        return before
