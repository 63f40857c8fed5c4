"""Orders where several processes train: the first one hears them, and all take the same ones at the same turn."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from trainer.control import Control
from trainer.engine.failure import Failure, Halt
from trainer.engine.orders import Orders

if TYPE_CHECKING:
    from trainer.engine.ranks import Ranks
    from trainer.events import Cause
    from trainer.followers import Followers
    from trainer.rundir import AttemptDir, RunDir

APART = 1e-5
"""Relative difference of the gradient's norm above which ranks no longer train the same model."""


class SharedOrders(Orders):
    """The orders of the first process.

    It may end at any moment: where every rank has the whole model, what it holds is all there is to save, and the
    others are ended. Where the model is divided they must save it together, so it then ends between two steps.
    """

    def __init__(self, run: RunDir, attempt: AttemptDir, followers: Followers) -> None:
        super().__init__(run, attempt)
        self.followers = followers
        self.ranks: Ranks | None = None
        self._turning = False
        self._order: Control | None = None

    def agree(self, elapsed: float, norm: float) -> float:
        """Settle what holds for this turn on every rank: orders, and the time that has passed."""
        assert self.ranks is not None
        self._turning = True
        halt = None
        if self.ranks.sharded:
            try:
                super().check(now=True)
            except Halt as asked:
                halt = [asked.state, asked.cause, asked.message]
        order = super().given()
        said = {
            "elapsed": elapsed,
            "norm": norm,
            "halt": halt,
            "order": None if order is None else asdict(order),
        }
        self._order = order
        self.ranks.told(said)
        if halt is not None:
            raise Halt(*halt)
        return elapsed

    def given(self) -> Control | None:
        """The order of this turn."""
        return self._order

    def check(self, *, now: bool = False) -> None:
        """Raise Failure when another rank has died, Halt as for one process."""
        if (lost := self.followers.lost()) is not None:
            raise Failure(cast("Cause", lost.cause), lost.message)
        if not (self._turning and self.ranks is not None and self.ranks.sharded):
            super().check(now=now)


class FollowedOrders(Orders):
    """The orders that the first process has told."""

    def __init__(self, run: RunDir, attempt: AttemptDir, ranks: Ranks) -> None:
        super().__init__(run, attempt)
        self.ranks = ranks
        self._order: Control | None = None

    def agree(self, elapsed: float, norm: float) -> float:
        """Take over what the first process says. Raises Failure when it trains another model by now."""
        said = self.ranks.told(None)
        first = float(said["norm"])
        if not math.isclose(norm, first, rel_tol=APART, abs_tol=APART):
            raise Failure(
                "crash",
                f"the weights of rank {self.ranks.rank} are not those of rank 0 any more: its gradient had the "
                f"norm {norm:.8g}, there it was {first:.8g}",
            )
        order = said["order"]
        self._order = None if order is None else Control(**order)
        if said["halt"] is not None:
            raise Halt(*said["halt"])
        return float(said["elapsed"])

    def given(self) -> Control | None:
        """The order of this turn."""
        return self._order

    def check(self, *, now: bool = False) -> None:
        """The first process decides."""

    def check_fence(self) -> None:
        """The first process looks."""
