"""Follow the starter pipeline from the terminal: progress while it runs, a table at its end."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from django.db import connections
from django.db.utils import InterfaceError, OperationalError

from orchestrator.models import ENDED, Run, State
from orchestrator.selectors.series import series_read
from orchestrator.supervisor.supervise import say

if TYPE_CHECKING:
    from collections.abc import Sequence

FIGURES = ("eval/accuracy", "eval/reward", "reward", "eval/pair_accuracy", "eval/loss", "loss")
"""What tells whether a run has learned; the first one that it logged is shown."""


@dataclasses.dataclass
class Follower:
    """Watches some runs and says what changes."""

    run_ids: Sequence[str]
    said: dict[str, tuple[str, int]] = dataclasses.field(default_factory=dict)

    def look(self) -> bool:
        """Print a line for every run that moved on; True once all have ended."""
        try:
            runs = self._runs()
        except (OperationalError, InterfaceError):
            # The database is being started again; its rows will be there.
            connections.close_all()
            return False
        for run in runs:
            tenth = 10 * run.step // run.total_steps if run.total_steps else 0
            if self.said.get(run.id) != (run.state, tenth):
                self.said[run.id] = (run.state, tenth)
                say(_progress(run))
        return all(run.state in ENDED for run in runs)

    def everything_arrived(self) -> bool:
        """Say whether the last line of every journal is in the database."""
        return all(run.complete for run in self._runs())

    def table(self) -> str:
        """Return one row a run: what it is, how it ended, what it learned, how long it took."""
        head = ("run", "state", "steps", "figure", "first", "last", "time")
        rows = [head, *(_row(run) for run in self._runs())]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )

    def all_finished(self) -> bool:
        """Say whether every run did what it was asked to."""
        return all(run.state == State.FINISHED for run in self._runs())

    def _runs(self) -> list[Run]:
        found = Run.objects.in_bulk(self.run_ids)
        return [found[run_id] for run_id in self.run_ids]


def _progress(run: Run) -> str:
    of_total = f" of {run.total_steps}" if run.total_steps else ""
    step = f", step {run.step}{of_total}" if run.step else ""
    phase = f", {run.phase}" if run.phase and run.state == State.RUNNING else ""
    reason = f": {run.reason}" if run.reason and run.state != State.RUNNING else ""
    return f"{run.name}  {run.state}{phase}{step}{reason}"


def _row(run: Run) -> tuple[str, ...]:
    key, first, last = _figure(run)
    seconds = (run.ended - run.started).total_seconds() if run.ended and run.started else 0.0
    return (run.name, run.state, str(run.step), key, first, last, f"{seconds:.0f} s")


def _figure(run: Run) -> tuple[str, str, str]:
    """Return the first figure of `FIGURES` that the run logged, at its start and at its end."""
    for key in FIGURES:
        values = series_read(run=run, keys=[key])[key]["y"]
        if values:
            return key, f"{float(values[0]):.3g}", f"{float(values[-1]):.3g}"
    return "-", "-", "-"
