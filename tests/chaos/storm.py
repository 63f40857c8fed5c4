"""One storm over a fleet of scripted runs: kill -9 of whatever is named, at random moments."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from orchestrator import postgres
from tests.chaos.comparison import assert_prefix

if TYPE_CHECKING:
    import random

    from tests.chaos.fleet import Fleet
    from tests.chaos.stack import Stack


THERE_WITHIN = 90.0
"""Seconds: on a busy machine the database takes its time to recover from the kill before."""


@dataclass
class Storm:
    """kill -9 of whatever is named, at random moments."""

    fleet: Fleet
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    @property
    def stack(self) -> Stack:
        return self.fleet.stack

    def blow(self, victims: list[str], seconds: float) -> None:
        """Kill each victim once, in random order, within about so many seconds."""
        order = self.chance.sample(victims, len(victims))
        moments = sorted(self.chance.uniform(0, seconds) for _ in order)
        begun = time.monotonic()
        for victim, moment in zip(order, moments, strict=True):
            self.fleet.tend_for(max(0.0, begun + moment - time.monotonic()))
            self.kill(victim)
            voyage = self.chance.choice(self.fleet.voyages)
            assert_prefix(self.stack, voyage)

    def settle(self, quiet: float, within: float) -> None:
        """Until everything has arrived, or nothing has moved for so long: how late it is tells nothing."""
        deadline = time.monotonic() + within
        known, moved = 0, time.monotonic()
        while not self.fleet.delivered and time.monotonic() < min(deadline, moved + quiet):
            self.fleet.tend_for(2)
            for voyage in self.fleet.voyages:
                assert_prefix(self.stack, voyage)
            (now,) = self.stack.query("SELECT coalesce(sum(cursor), 0) FROM orchestrator_stream")
            if now[0] != known:
                known, moved = now[0], time.monotonic()

    def kill(self, victim: str) -> None:
        """Kill it as soon as it is there to be killed."""
        deadline = time.monotonic() + THERE_WITHIN
        while not self._kill(victim):
            assert time.monotonic() < deadline, f"no {victim} to kill:\n{self.stack.said()}"
            self.fleet.tend_for(0.1)
        self.killed[victim] += 1

    def _kill(self, victim: str) -> bool:
        if victim == "ship":
            return self.fleet.kill_ship(self.chance)
        if victim == "backend":
            return backend_kill(self.stack)
        return self.stack.kill_part(victim)


def backend_kill(stack: Stack) -> bool:
    """kill -9 of a database process that serves somebody; the server ends all others and recovers."""
    with (
        contextlib.suppress(psycopg.Error, ProcessLookupError),
        psycopg.connect(postgres.url(stack.data), connect_timeout=2) as connection,
    ):
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            " AND pid <> pg_backend_pid() ORDER BY query_start DESC NULLS LAST LIMIT 1"
        ).fetchone()
        if row is not None:
            os.kill(row[0], signal.SIGKILL)
            return True
    return False
