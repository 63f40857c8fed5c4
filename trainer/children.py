"""The two processes that host starts: the trainer in a group of its own, and `ship`."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from trainer.liveness import Watch, hung_after
from trainer.processes import ProcessName, processes_read, processes_with
from trainer.tempo import TEMPO

if TYPE_CHECKING:
    from trainer.rundir import AttemptDir, RunDir

SHIP_BACKOFF_MOST = TEMPO.ship_backoff
ATTEMPT_VARIABLE = "ANNEAL_ATTEMPT_DIR"
"""In the trainer's environment: finds a trainer whose host died before it could note the pid."""


class Trainer:
    """The trainer's process group, started here or adopted."""

    def __init__(self, run: RunDir, attempt: AttemptDir) -> None:
        self.run_dir = run
        self.attempt = attempt
        self.child: subprocess.Popen[bytes] | None = None
        self.name: ProcessName | None = None
        self.exit_code: int | None = None

    @property
    def pid(self) -> int:
        """Its pid, which is also its group's; 0 when it was never seen."""
        return self.name.pid if self.name else 0

    def start(self, argv: list[str]) -> None:
        """Start it; what it prints goes straight to log.txt, so that it outlives us."""
        with self.attempt.log.open("ab") as log:
            try:
                self.child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        **os.environ,
                        **threads(self.run_dir),
                        ATTEMPT_VARIABLE: str(self.attempt.path.resolve()),
                    },
                    start_new_session=True,
                )
            except OSError as error:
                log.write(f"{argv[0]} cannot be started: {error}\n".encode())
                self.exit_code = 127
                return
        self.name = ProcessName.of(self.child.pid)

    def adopt(self) -> None:
        """Take over the one that a dead host started."""
        noted = processes_read(self.attempt.processes).get("trainer")
        self.name = noted or next(iter(self._family()), None)

    def alive(self) -> bool:
        """Whether it runs, as seen without reaping it."""
        return self.name is not None and self.name.alive()

    def ended(self) -> bool:
        """Whether it ended; then its group is gone too, and `exit_code` is known if it was ours."""
        if self.child is None:
            if self.alive():
                return False
            for left in self._family():
                left.signal(signal.SIGKILL)
            return True
        # Look without reaping: until then nobody else can get its pid, which names the group.
        if not os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        _kill_group(self.child.pid)
        self.exit_code = self.child.wait()
        return True

    def _family(self) -> list[ProcessName]:
        """The trainer and whatever it started, found by what they inherited."""
        return processes_with(ATTEMPT_VARIABLE, str(self.attempt.path.resolve()))

    def signal(self, number: signal.Signals) -> None:
        """TERM for the trainer, which saves a checkpoint; KILL for its whole group."""
        if self.name is not None:
            self.name.signal(number, group=number == signal.SIGKILL)


class Ship:
    """Keeps `trainer.ship` alive while there is a lease."""

    def __init__(self, attempt: AttemptDir) -> None:
        self.attempt = attempt
        self.child: subprocess.Popen[bytes] | None = None
        self.name = processes_read(attempt.processes).get("ship")
        self.given_up = not attempt.lease.exists()
        self.watch = Watch(attempt.alive("ship"), hung_after())
        self.hung_for = 0.0
        """Seconds that a ship stood still which was ended for it; whoever tells of it sets it back."""
        self.start_at = 0.0
        self.backoff = 0.5

    def busy(self) -> bool:
        """Whether it still has something to do."""
        return not self.given_up

    def keep(self, now: float) -> bool:
        """Start it when it does not run; whether a new one was started."""
        if self.given_up or now < self.start_at:
            return False
        if self.child is not None:
            code = self.child.poll()
            if code is None:
                self._end_if_hung(now)
                return False
            # 0: all delivered; 3: refused for good. Everything else deserves another try.
            self.given_up = code in (0, 3)
            self.child = None
            self.start_at = now + self.backoff
            self.backoff = min(SHIP_BACKOFF_MOST, self.backoff * 2)
            return False
        if self.name is not None and self.name.alive():
            self._end_if_hung(now)
            return False
        self.child = ship_start(self.attempt)
        self.name = ProcessName.of(self.child.pid)
        self.watch.again(now)
        return True

    def _end_if_hung(self, now: float) -> None:
        """A ship that stands still is ended like a dead one, which the next looks replace. The journals and the
        server's cursors know what is left to deliver."""
        if (silent := self.watch.hangs(now)) and self.name is not None:
            self.hung_for = silent
            self.name.signal(signal.SIGKILL, group=True)
            self.watch.again(now)


def ship_start(attempt: AttemptDir) -> subprocess.Popen[bytes]:
    """Start `trainer.ship` in a group of its own; it says what it does in ship.log."""
    command = [sys.executable, "-m", "trainer.ship", "--dir", str(attempt.path.parent)]
    with (attempt.path / "ship.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--attempt", str(attempt.number)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def threads(run: RunDir) -> dict[str, str]:
    """The trainer's thread counts; they must be in its environment before it loads torch."""
    try:
        cpus = str(int(run.spec_raw()["spec"]["resources"]["cpus"]))
    except (OSError, ValueError, KeyError, TypeError):
        cpus = "1"
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {
        **dict.fromkeys(names, cpus),
        # Threads that spin beside a busy neighbour made a training step 20 times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
    }


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
