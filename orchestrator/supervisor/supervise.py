"""Keep the parts up: start the dead again, say why one stays down, end all in order."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from typing import TYPE_CHECKING

from orchestrator.postgres import DatabaseError
from orchestrator.supervisor.logs import last_lines
from orchestrator.supervisor.processes import family_end
from orchestrator.supervisor.restarts import GIVE_UP_AT, Restarts
from orchestrator.supervisor.standstill import database_answers

if TYPE_CHECKING:
    import threading

    from orchestrator.supervisor.ledger import Ledger
    from orchestrator.supervisor.part import Part

LOOK_EVERY = 0.2  # seconds
STOP_WITHIN = 5.0  # seconds for each part to end by itself
FAMILY_WITHIN = 2.0  # seconds for what is left; runs were asked to end before
STOP_ORDER = ("node", "control", "web", "database")


@dataclasses.dataclass
class Kept:
    """A part with what happened to it."""

    part: Part
    restarts: Restarts = dataclasses.field(default_factory=Restarts)
    start_at: float | None = None
    """When to start it again; None while it runs or is given up."""
    given_up: bool = False


class Supervisor:
    """Holds the started parts; whoever calls `watch` waits for `stopping`."""

    def __init__(self, ledger: Ledger, stopping: threading.Event) -> None:
        self.ledger = ledger
        self.stopping = stopping
        self.kept: dict[str, Kept] = {}
        self.database_answers = database_answers

    def start(self, part: Part) -> None:
        """Start a part and keep it up from now on."""
        self.kept[part.name] = Kept(part)
        part.start()
        self.ledger.note(part.name, part.identity())

    @property
    def degraded(self) -> list[str]:
        """Return the parts that were given up."""
        return [name for name, kept in self.kept.items() if kept.given_up]

    def watch(self, seconds: float | None = None) -> None:
        """Keep the parts up until a stop is asked for, or for some seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not self.stopping.is_set():
            self.look(time.monotonic())
            if deadline is not None and time.monotonic() >= deadline:
                return
            self.stopping.wait(LOOK_EVERY)

    def look(self, now: float) -> None:
        """Look at every part once."""
        for kept in self.kept.values():
            if kept.given_up:
                continue
            if kept.start_at is not None:
                if now >= kept.start_at:
                    self._start_again(kept)
            elif ending := kept.part.death():
                self._died(kept, ending, now)
            elif why := kept.part.hang(now):
                self._hangs(kept.part, why)

    def stop(self) -> None:
        """End the parts in order, and then whatever of their family is left."""
        for name in STOP_ORDER:
            if name in self.kept:
                kept = self.kept.pop(name)
                kept.part.stop(STOP_WITHIN)
                self.ledger.note(name, None)
        family_end(self.ledger.token, FAMILY_WITHIN)

    def _start_again(self, kept: Kept) -> None:
        kept.start_at = None
        try:
            kept.part.start()
        except (OSError, DatabaseError) as error:
            self._died(kept, str(error), time.monotonic())
            return
        self.ledger.note(kept.part.name, kept.part.identity())

    def _hangs(self, part: Part, why: str) -> None:
        """End a part that stands still; the next look finds it dead. Not while the database is away: then it
        may only wait."""
        part.hang_forget(time.monotonic())
        if self.database_answers():
            say(f"The {part.name} part stands still ({why}); ending it.")
            part.kill()

    def _died(self, kept: Kept, ending: str, now: float) -> None:
        name, log = kept.part.name, kept.part.log
        delay = kept.restarts.delay_after(now)
        if delay is not None:
            kept.start_at = now + delay
            say(f"The {name} part ended ({ending}); starting it again.")
            return
        kept.given_up = True
        self.ledger.note(name, None)
        lines = "\n".join(f"    {line}" for line in last_lines(log))
        say(
            f"The {name} part ended {GIVE_UP_AT} times within a minute ({ending}) and stays down. "
            f"The last lines of {log}:\n{lines}\nMend the cause, then stop and start Anneal."
        )


def say(sentence: str) -> None:
    """Tell the person at the terminal."""
    # A closed terminal must not keep us from ending what we started.
    with contextlib.suppress(OSError):
        print(f"{time.strftime('%H:%M:%S')} {sentence}", file=sys.stderr, flush=True)
