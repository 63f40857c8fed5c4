"""Sequential: the rows in the order of the data, every epoch."""

from typing import TYPE_CHECKING, Literal

from trainer.registry import Curriculum

if TYPE_CHECKING:
    from collections.abc import Sequence


class Sequential(Curriculum):
    """Visit the rows in the order in which the data holds them."""

    type: Literal["sequential"] = "sequential"

    def order(self, count: int, epoch: int, seed: int) -> "Sequence[int]":
        """range(count), whatever the epoch and the seed."""
        return range(count)
