"""One attempt at work: where it writes, whom it obeys, and its clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trainer.engine.clock import Clock
from trainer.engine.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from trainer.engine.orders import Orders
    from trainer.engine.progress import Report
    from trainer.engine.ranks import Ranks
    from trainer.rundir import AttemptDir, RunDir


@dataclass
class Session:
    """What every part of the engine may need of the attempt it works for."""

    run: RunDir
    attempt: AttemptDir
    report: Report
    orders: Orders
    model_path: str = ""
    """Folder that stands for `run:ID` or `checkpoint:ID`."""
    reference_path: str = ""
    """The same for the reference."""
    play_paths: Mapping[str, Path] = field(default_factory=dict)
    """Folders that stand for `run:ID` or `checkpoint:ID` among the models of a playground."""
    reward_paths: Mapping[str, str] = field(default_factory=dict)
    """The same, or hub ids, for the models that rewards name."""
    datasets: Mapping[str, Path] = field(default_factory=dict)
    """Files of dataset ids."""
    voids: Sequence[tuple[int, int]] = ()
    """(attempt, step) of each rollback: what attempts up to that one did behind that step is void."""
    clock: Clock = field(default_factory=Clock)
    ranks: Ranks = ALONE
    """The processes that train together, as this one sees them."""

    def __post_init__(self) -> None:
        self.clock.entered = self.report.enter

    def tick(self) -> None:
        """Called between the small pieces of work: heartbeat, and Halt when the run is to end."""
        self.report.tick()
        self.orders.check()
