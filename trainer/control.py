"""The control file: what people want of a running trainer, read at every step boundary.

`ship` writes it after an acknowledgement, `host` and the command line may too; the loop only reads it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

Want = Literal["run", "pause", "stop"]


@dataclass(frozen=True)
class Control:
    """What is wanted, by whom and why, and the knobs to change."""

    want: Want = "run"
    cause: str = "user"
    message: str = ""
    """A sentence for the run's status, such as "stopped by ada"."""
    knobs: dict[str, Any] = field(default_factory=dict)
    """Live-changeable knobs by spec path."""
    asks: dict[str, int] = field(default_factory=dict)
    """Requests to "save" or to "evaluate" now, by how often each was made so far."""
    on_stall: str = "tell"
    """What host does about a trainer that stalls: tell, restart or stop."""

    def write(self, path: Path) -> None:
        """Replace the control file."""
        order = asdict(self)
        if self.on_stall == "tell":
            # A trainer that was started before there was such a field refuses what it does not know.
            del order["on_stall"]
        write_atomic(path, json.dumps(order))


class ControlReader:
    """Reads the control file when it changed; a stat per step costs microseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self._last = Control()

    def given(self) -> Control | None:
        """The newest order; None while there is no file."""
        order = self.read()
        return None if self._stamp == (0, 0) else order

    def read(self) -> Control:
        """The newest order; the last one again while the file is unchanged or absent."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return self._last
        stamp = (stat.st_mtime_ns, stat.st_ino)
        if stamp != self._stamp:
            self._last = Control(**json.loads(self._path.read_text()))
            self._stamp = stamp
        return self._last
