"""When patience with a trainer that was asked to stop ends: the order, then TERM, then KILL."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from trainer.control import Control

GRACE, TERM_GRACE = TEMPO.stop_grace, TEMPO.term_grace  # seconds
QUICK_GRACE, QUICK_TERM_GRACE = min(10.0, GRACE), min(3.0, TERM_GRACE)
QUICK = frozenset({"server-stopped", "fenced"})
"""Causes that cannot wait: the machine goes down, or another attempt is at work."""


@dataclass
class Escalation:
    """Counts from the first order to stop; going back to `run` before TERM resets it."""

    asked_at: float | None = None
    order: Control | None = None
    termed_at: float | None = None
    hurried: bool = False
    killed: bool = False

    def ask(self, order: Control, now: float) -> None:
        """Take the newest order."""
        if order.want == "run":
            if self.termed_at is None and not self.hurried:
                self.asked_at = self.order = None
            return
        if self.asked_at is None:
            self.asked_at = now
        self.order = order

    def due(self, now: float, promise: float) -> signal.Signals | None:
        """The signal to send now, if any; `promise` is how long the trainer said a step may take."""
        if self.asked_at is None or self.order is None or self.killed:
            return None
        quick = self.order.cause in QUICK
        grace = QUICK_GRACE if quick else max(GRACE, promise)
        if self.termed_at is None:
            if now - self.asked_at < grace and not self.hurried:
                return None
            self.termed_at = now
            return signal.SIGTERM
        # TERM as the first word asks for a checkpoint, as the last one only for an end.
        patience = QUICK_TERM_GRACE if quick else TERM_GRACE
        if now - self.termed_at < (grace if self.hurried else patience):
            return None
        self.killed = True
        return signal.SIGKILL

    def hurry(self, order: Control, now: float) -> None:
        """Send TERM at the next look: somebody ended host itself."""
        self.hurried = self.termed_at is None
        if self.asked_at is None:
            self.asked_at, self.order = now, order
