"""Many scripted runs at once: their writers, and the ships that the harness keeps alive as host does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.script import Script
from trainer.children import Ship
from trainer.journal import read_events
from trainer.rundir import RunDir, write_atomic

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from tests.chaos.script import Line
    from tests.chaos.stack import Stack


@dataclass
class Voyage:
    """One run: the attempt that is written now, and a ship for each attempt so far."""

    run_id: str
    tokens: list[str]
    script: Script
    run: RunDir
    seconds: float
    attempt: int = 0
    writer: subprocess.Popen[bytes] | None = None
    ships: list[Ship] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)

    @property
    def written(self) -> bool:
        """Whether the last attempt has ended."""
        last = self.attempt == self.script.attempts
        return last and self.writer is not None and self.writer.poll() is not None

    def samples_written(self, attempt: int) -> list[Line]:
        """The samples that the writer had time for: a short attempt ends before its last ones."""
        count = sum(1 for _ in read_events(self.run.attempt(attempt).journal("samples")))
        return self.script.samples(attempt)[:count]

    def begin(self, port: int) -> None:
        """Start the next attempt: its lease, its writer, its ship."""
        self.attempt += 1
        attempt = self.run.attempt(self.attempt)
        attempt.path.mkdir(parents=True)
        lease = {"server": f"ws://127.0.0.1:{port}", "token": self.tokens[self.attempt - 1]}
        write_atomic(attempt.lease, json.dumps(lease), 0o600)
        words = {"attempt": self.attempt, "seed": self.script.seed, "points": self.script.points}
        share = self.seconds / self.script.attempts
        options = [f"--{name}={value}" for name, value in {**words, "seconds": share}.items()]
        with (attempt.path / "writer.log").open("ab") as log:
            self.writer = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.writer", f"--dir={self.run.path}", *options],
                cwd=PROJECT_DIR,
                stdout=log,
                stderr=log,
            )
        self.ships.append(Ship(attempt))


class Fleet:
    """The runs of one storm."""

    def __init__(self, stack: Stack, folder: Path, port: int) -> None:
        self.stack = stack
        self.folder = folder
        self.port = port
        """Where the ships sail to: the fault proxy's port."""
        self.voyages: list[Voyage] = []

    def launch(self, count: int, points: int, seconds: float, seed: int) -> None:
        """Make the runs and begin their first attempts."""
        made = subprocess.run(
            [sys.executable, "-m", "tests.chaos.runs_make", str(count), "3"],
            env=self.stack.env,
            cwd=PROJECT_DIR,
            capture_output=True,
            text=True,
            check=True,
        )
        for number, run in enumerate(json.loads(made.stdout)):
            script = Script(seed * 1000 + number, points)
            folder = RunDir(self.folder / run["id"])
            self.voyages.append(Voyage(run["id"], run["tokens"], script, folder, seconds))
            self.voyages[-1].begin(self.port)

    def tend(self) -> None:
        """Look after every run once: the next attempt after a crash, a new ship after a kill."""
        for voyage in self.voyages:
            assert voyage.writer is not None
            if voyage.attempt < voyage.script.attempts and voyage.writer.poll() is not None:
                assert voyage.writer.returncode == 0, voyage.run.path
                self._claim(voyage.run_id, voyage.attempt + 1)
                voyage.begin(self.port)
            for ship in voyage.ships:
                ship.keep(time.monotonic())

    def _claim(self, run_id: str, attempt: int) -> None:
        """Take the run out of the queue as a node's claim would."""
        self.stack.query(
            "UPDATE orchestrator_run SET attempt = %s, process = 'alive', state = 'running',"
            " cause = '', reason = '', last_contact = now(), complete = false"
            " WHERE id = %s RETURNING id",
            attempt,
            run_id,
        )

    @property
    def written(self) -> bool:
        """Whether every writer has said its last word."""
        return all(voyage.written for voyage in self.voyages)

    @property
    def delivered(self) -> bool:
        """Whether every ship has ended by itself."""
        return self.written and not any(ship.busy() for v in self.voyages for ship in v.ships)

    def tend_for(self, seconds: float) -> None:
        """Look after all runs for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.tend()
            time.sleep(0.05)

    def tend_until_delivered(self, within: float) -> None:
        """Look after all runs until everything has arrived, or the time is over."""
        deadline = time.monotonic() + within
        while not self.delivered and time.monotonic() < deadline:
            self.tend()
            time.sleep(0.05)

    def kill_ship(self, chance: random.Random) -> bool:
        """kill -9 of one ship at work; False when none is."""
        ships = [ship for voyage in self.voyages for ship in voyage.ships]
        alive = [ship.name for ship in ships if ship.name is not None and ship.name.alive()]
        if not alive:
            return False
        chance.choice(alive).signal(signal.SIGKILL)
        return True

    def end(self) -> None:
        """Kill what is left."""
        for voyage in self.voyages:
            if voyage.writer is not None:
                voyage.writer.kill()
                voyage.writer.wait()
            for ship in voyage.ships:
                if ship.child is not None:
                    ship.child.kill()
                    ship.child.wait()
                    ship.child = None
