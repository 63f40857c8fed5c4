"""vLLM's sleep on a GPU: between two rollouts its memory is the trainer's.

Level 1 keeps the weights in host memory, level 2 forgets them; the key-value cache goes either way.
"""

from __future__ import annotations

from typing import Any

FORGETS = 2


class Sleeper:
    """Puts an engine to sleep and wakes it; does nothing at level 0."""

    def __init__(self, llm: Any, level: int) -> None:
        self._llm, self.level = llm, level
        self._asleep: set[str] = set()

    def rest(self) -> None:
        """Give its memory back; it must not be asked anything until it was woken."""
        if self.level and not self._asleep:
            self._llm.sleep(level=self.level)
            self._asleep = {"weights", "kv_cache"}

    def wake_weights(self) -> bool:
        """Make room for the weights alone; whether they were forgotten and must be handed over again."""
        if "weights" not in self._asleep:
            return False
        self._llm.wake_up(tags=["weights"])
        self._asleep.discard("weights")
        return self.level == FORGETS

    def wake(self) -> None:
        """Make room for the key-value cache too: after it answers can be sampled."""
        if "kv_cache" in self._asleep:
            self._llm.wake_up(tags=["kv_cache"])
            self._asleep.discard("kv_cache")
