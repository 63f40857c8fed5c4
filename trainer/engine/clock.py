"""Where a step's time goes: exclusive phases, so that the parts sum to the step."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PARTS = (
    "data", "rollout", "wait", "reward", "logprob", "update", "sync", "eval", "checkpoint", "other",
)  # fmt: skip


class Clock:
    """Adds wall time to the phase it is in; `other` is where nothing else is named."""

    def __init__(self) -> None:
        self._spent = dict.fromkeys(PARTS, 0.0)
        self._part = "other"
        self._since = time.perf_counter()
        self.entered: Callable[[str], None] | None = None
        """Is told of each part that begins or goes on."""

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
        return self._spent[name]

    def lap(self) -> dict[str, float]:
        """`time/*` since the last lap, the sum as `time/step`; starts the next lap."""
        self._switch(self._part)
        values = {f"time/{name}": seconds for name, seconds in self._spent.items()}
        values["time/step"] = sum(self._spent.values())
        self._spent = dict.fromkeys(PARTS, 0.0)
        return values

    def _switch(self, name: str) -> str:
        now = time.perf_counter()
        before, self._part = self._part, name
        self._spent[before] += now - self._since
        self._since = now
        if name != before and self.entered is not None:
            self.entered(name)
        return before
