"""Attempts that are claimed and whose host does not run yet: heartbeats vouch for them, their GPUs are taken."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Key = tuple[str, int]
"""Run and attempt."""


class Preparing:
    """What of this node's work is between a claim and its host. Safe to use from several threads."""

    def __init__(self) -> None:
        self._gpus: dict[Key, frozenset[int]] = {}
        self._over: set[Key] = set()
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._gpus)

    def attempts(self) -> list[Key]:
        """The attempts, sorted."""
        with self._lock:
            return sorted(self._gpus)

    def begin(self, key: Key) -> None:
        """An attempt was claimed."""
        with self._lock:
            self._gpus[key] = frozenset()

    def end(self, key: Key) -> None:
        """Its host runs, or it will not start."""
        with self._lock:
            self._gpus.pop(key, None)
            self._over.discard(key)

    def gpus_take(
        self, key: Key, given: Iterable[int], in_use: Callable[[], set[int]]
    ) -> frozenset[int]:
        """Note the GPUs as this attempt's; or say which of them somebody else has, and note nothing."""
        wanted = frozenset(given)
        with self._lock:
            others = (taken for other, taken in self._gpus.items() if other != key)
            busy = wanted & in_use().union(*others)
            if not busy:
                self._gpus[key] = wanted
            return busy

    def gpus_of(self) -> dict[str, list[int]]:
        """The GPUs that are noted, by run."""
        with self._lock:
            return {run: sorted(taken) for (run, _), taken in self._gpus.items() if taken}

    def fence(self, key: Key) -> None:
        """The server takes this attempt for over: it must not start any more."""
        with self._lock:
            if key in self._gpus:
                self._over.add(key)

    def is_over(self, key: Key) -> bool:
        """Whether the server takes it for over."""
        return key in self._over

    @contextmanager
    def at_rest(self) -> Iterator[bool]:
        """Keep new attempts from beginning; gives whether none is being prepared."""
        with self._lock:
            yield not self._gpus
