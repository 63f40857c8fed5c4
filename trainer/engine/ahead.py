"""Sampling ahead of training: a generator's process draws batches while the trainer learns from older ones.

The batch that is learned from v-th is asked for when v - eta batches have been learned from, at the earliest
(AReaL, arXiv 2505.24298: floor((N - 1) / B) <= version + eta): no token is older than eta batches, and the
generator waits where the trainer is slower. New weights reach answers in the middle.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol

from trainer.engine.generation import Generator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trainer.engine.dataset import Cursor, Example
    from trainer.engine.sampler import Sampled, Sampling
    from trainer.engine.seeds import Words


class Apart(Generator, Protocol):
    """A generator in processes of its own."""

    def submit(self, ticket: int, prompts: list[list[int]], keys: Words, how: Sampling) -> None:
        """Queue a batch."""

    def wait(self, ticket: int, tick: Callable[[], None]) -> list[Sampled]:
        """The answers of a batch. Raises Failure when the process has died."""

    def cancel(self, ticket: int) -> None:
        """Nobody wants these answers any more."""

    def stats(self) -> dict[str, float]:
        """Its counters since its start."""


@dataclass(frozen=True)
class Asked:
    """A batch whose answers are being drawn."""

    ticket: int
    step: int
    """The optimizer step of its first update."""
    examples: Sequence[Example]
    visited: list[int]
    """The cursor behind it."""
    how: Sampling


@dataclass
class Ahead:
    """The batches that were asked for, oldest first."""

    generator: Apart
    cursor: Cursor
    waiting: deque[Asked] = field(default_factory=deque)
    _tickets: count[int] = field(default_factory=lambda: count(1))

    def fill(
        self,
        *,
        step: int,
        updates: int,
        last: int,
        visited: list[int],
        size: int,
        how: Sampling,
        most: int,
        keys: Callable[[int, int], Words],
    ) -> None:
        """Ask for what may be drawn: the batch of `step` and `most` behind it, `updates` steps apart.

        `visited` is the cursor before the batch of `step`, `keys` gives the seeds of a step's prompts; no batch
        is asked for behind step `last`, which is 0 where none is known to be the last.
        """
        if any(asked.how != how for asked in self.waiting):
            # Drawn by knobs that were moved since: the loss would take them for another distribution.
            self.forget()
        while len(self.waiting) <= most:
            newest = self.waiting[-1] if self.waiting else None
            due = newest.step + updates if newest else step
            if last and due > last:
                return
            examples, behind = self.cursor.take(newest.visited if newest else visited, size)
            asked = Asked(next(self._tickets), due, examples, behind, how)
            prompts = [example.prompt for example in examples]
            self.generator.submit(asked.ticket, prompts, keys(due, len(prompts)), how)
            self.waiting.append(asked)

    def take(self, step: int, tick: Callable[[], None]) -> tuple[Asked, list[Sampled]]:
        """The batch of `step` with its answers, when they are there."""
        asked = self.waiting[0]
        assert asked.step == step, f"a batch for step {asked.step} was asked for, not for {step}"
        sampled = self.generator.wait(asked.ticket, tick)
        self.waiting.popleft()
        return asked, sampled

    def forget(self) -> None:
        """Take back what was asked for."""
        while self.waiting:
            self.generator.cancel(self.waiting.popleft().ticket)
