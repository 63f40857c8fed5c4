"""Shuffled: a fresh permutation of the rows in every epoch."""

import random
from typing import TYPE_CHECKING, Literal

from trainer.registry import Curriculum

if TYPE_CHECKING:
    from collections.abc import Sequence


class Shuffled(Curriculum):
    """Visit every row once per epoch, in an order drawn from the run's seed and the epoch."""

    type: Literal["shuffled"] = "shuffled"

    def order(self, count: int, epoch: int, seed: int) -> "Sequence[int]":
        """A permutation of range(count), a pure function of its arguments."""
        rows = list(range(count))
        random.Random(f"{seed}/{epoch}").shuffle(rows)
        return rows
