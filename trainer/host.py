"""Hosts one attempt: `python -m trainer.host --dir D --attempt K -- <trainer argv>`.

Starts the trainer in a process group of its own, follows its log, keeps `ship` alive, enforces the
deadlines of a stop, and says how the trainer ended when it could not say so itself. It runs detached,
so that nothing else on the machine that is restarted ever stops a training. With `--adopt` it takes
over from a host that died.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.control import Control, ControlReader
from trainer.escalation import Escalation
from trainer.events import TERMINAL
from trainer.journal import Journal, Tail, read_events
from trainer.logtail import LogTail
from trainer.processes import ProcessName, process_with, processes_read, processes_write
from trainer.rundir import AttemptDir, RunDir
from trainer.verdict import Verdict, oom_kills, verdict_of_exit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import IO

LOOK_EVERY = 0.05
LOG_EVERY = 0.3
LINES_PER_EVENT = 500
HEARTBEAT_EVERY, HEARTBEAT_PROMISE = 5.0, 20.0
SHIP_BACKOFF_MOST = 30.0
SHIP_WITHIN = 20.0
"""Seconds that host waits for ship at the end; ship goes on alone after that."""
EXIT_ANOTHER = 75
ATTEMPT_VARIABLE = "ANNEAL_ATTEMPT_DIR"
"""In the trainer's environment: finds a trainer whose host died before it could note the pid."""


class Host:
    """One attempt, from the start of its trainer to its last word."""

    def __init__(self, run: RunDir, attempt: AttemptDir) -> None:
        attempt.path.mkdir(parents=True, exist_ok=True)
        self.run_dir = run
        self.attempt = attempt
        self.journal = Journal(attempt.journal("host"))
        self.trainer = Trainer(run, attempt)
        self.ship = Ship(attempt)
        self.told = TrainerJournal(attempt)
        self.log = LogTail(attempt.log, _log_offset(attempt))
        self.control = ControlReader(attempt.control)
        self.escalation = Escalation()
        self.oom_before = oom_kills()
        self.log_at = self.beat_at = 0.0

    def run(self, argv: list[str] | None) -> int:
        """Start (or find) the trainer, stay with it until it ends, report. Returns its exit code."""
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_end)
        if argv is None:
            self.trainer.adopt()
        else:
            # Noted before and after: whoever looks in between finds a host that is alive.
            self._processes_note()
            self.trainer.start(argv)
        self._processes_note()
        while not self.trainer.ended():
            self._look(time.monotonic())
            time.sleep(LOOK_EVERY)
        self._finish()
        return self.trainer.exit_code or 0

    def _look(self, now: float) -> None:
        self.told.look()
        if now - self.log_at >= LOG_EVERY:
            self.log_at = now
            self._log_send()
        if now - self.beat_at >= HEARTBEAT_EVERY:
            self.beat_at = now
            self._note("heartbeat", expect_next_in=HEARTBEAT_PROMISE)
            # Counted anew now and then: only a kill of the last seconds can be ours.
            if self.trainer.alive():
                self.oom_before = oom_kills()
        if self.ship.keep(now):
            self._processes_note()
        self.escalation.ask(self.control.read(), now)
        if number := self.escalation.due(now, self.told.promise):
            self._signal(number)

    def _signal(self, number: signal.Signals) -> None:
        order = self.escalation.order or Control()
        self._note(
            "alert",
            level="warning",
            code="stop-escalated",
            message=f"The trainer has not ended since it was asked to {order.want}; "
            f"sent {number.name}.",
        )
        self.trainer.signal(number)

    def _told_to_end(self, number: int, frame: FrameType | None) -> None:
        order = Control("stop", "preempted", f"host received {signal.Signals(number).name}")
        self.escalation.hurry(order, time.monotonic())

    def _note(self, type: str, **fields: Any) -> bool:
        """Write an event; a full disk must not end the one process that watches the trainer."""
        try:
            self.journal.append(type, **fields)
        except OSError:
            return False
        return True

    def _log_send(self, *, final: bool = False) -> None:
        before = self.log.offset
        while lines := self.log.read() or (self.log.read(final=True) if final else []):
            for start in range(0, len(lines), LINES_PER_EVENT):
                part = lines[start : start + LINES_PER_EVENT]
                if not self._note("log", lines=part, stream="out", offset=self.log.offset):
                    self.log.offset = before
                    return
            before = self.log.offset

    def _finish(self) -> None:
        """Say how it ended, in the trainer's name when it could not, and let ship deliver all."""
        self._log_send(final=True)
        last = list(self.log.last)
        self.told.look()
        told = self.told.last_word
        if told is None:
            verdict = self._verdict(last)
            told = {"state": verdict.state, "cause": verdict.cause, "message": verdict.message}
            data = {"written_by": "host", **self._facts(), "log": last}
            _insist(lambda: self._speak_for_trainer({**told, "data": data}))
        word = {key: told.get(key, "") for key in ("state", "cause", "message")}
        _insist(lambda: self.journal.append("status", **word, **self._facts(), log=last))
        self.journal.close()
        deadline = time.monotonic() + SHIP_WITHIN
        while self.ship.busy() and time.monotonic() < deadline:
            self.ship.keep(time.monotonic())
            time.sleep(LOOK_EVERY)

    def _speak_for_trainer(self, word: dict[str, Any]) -> None:
        with Journal(self.attempt.journal("trainer")) as journal:
            journal.append("status", **word)

    def _verdict(self, last: list[str]) -> Verdict:
        order = self.escalation.order
        if order is not None and (self.escalation.killed or self.escalation.termed_at is not None):
            state = "paused" if order.want == "pause" else "stopped"
            message = order.message or f"asked to {order.want}"
            return Verdict(
                state, order.cause, f"{message}; it did not end in time and was ended by force."
            )
        oom = oom_kills() > self.oom_before
        return verdict_of_exit(self.trainer.exit_code, last, oom_killed=oom)

    def _facts(self) -> dict[str, Any]:
        return {"exit_code": self.trainer.exit_code, "pid": self.trainer.pid}

    def _processes_note(self) -> None:
        noted = {"host": ProcessName.of(os.getpid())}
        if self.trainer.name is not None:
            noted["trainer"] = self.trainer.name
        if self.ship.name is not None:
            noted["ship"] = self.ship.name
        processes_write(self.attempt.processes, noted)


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
        self.name = noted or process_with(ATTEMPT_VARIABLE, str(self.attempt.path.resolve()))

    def alive(self) -> bool:
        """Whether it runs, as seen without reaping it."""
        return self.name is not None and self.name.alive()

    def ended(self) -> bool:
        """Whether it ended; then its group is gone too, and `exit_code` is known if it was ours."""
        if self.child is None:
            return not self.alive()
        # Look without reaping: until then nobody else can get its pid, which names the group.
        if not os.waitid(os.P_PID, self.child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        _kill_group(self.child.pid)
        self.exit_code = self.child.wait()
        return True

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
                return False
            # 0: all delivered; 3: refused for good. Everything else deserves another try.
            self.given_up = code in (0, 3)
            self.child = None
            self.start_at = now + self.backoff
            self.backoff = min(SHIP_BACKOFF_MOST, self.backoff * 2)
            return False
        if self.name is not None and self.name.alive():
            return False
        self.child = ship_start(self.attempt)
        self.name = ProcessName.of(self.child.pid)
        return True


class TrainerJournal:
    """What the trainer says itself: its promise, and its last word."""

    def __init__(self, attempt: AttemptDir) -> None:
        self.tail = Tail(attempt.journal("trainer"))
        self.promise = 0.0
        self.last_word: dict[str, Any] | None = None

    def look(self) -> None:
        """Read what is new."""
        while lines := self.tail.read():
            for line in lines:
                if '"expect_next_in"' in line or '"type":"status"' in line:
                    self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        promise = event.get("expect_next_in")
        if isinstance(promise, (int, float)):
            self.promise = float(promise)
        if event.get("type") == "status" and event.get("state") in TERMINAL:
            self.last_word = event


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


def _insist(write: Callable[[], object]) -> None:
    """Write a last word, waiting for as long as the disk is full."""
    while True:
        try:
            write()
            return
        except OSError:
            time.sleep(1)


def _only_host(attempt: AttemptDir) -> IO[str] | None:
    """Hold the attempt's lock while we live; None when another host holds it."""
    attempt.path.mkdir(parents=True, exist_ok=True)
    lock = (attempt.path / "host.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def _kill_group(leader: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _log_offset(attempt: AttemptDir) -> int:
    """How much of log.txt an earlier host of this attempt has handed out."""
    offset = 0
    path = attempt.journal("host")
    if path.exists():
        for event in read_events(path):
            offset = event.get("offset", offset)
    return offset


def main(argv: list[str] | None = None) -> int:
    """Host one attempt."""
    arguments = sys.argv[1:] if argv is None else argv
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="python -m trainer.host", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the run's directory")
    parser.add_argument("--attempt", type=int, required=True, help="number of the attempt")
    parser.add_argument("--adopt", action="store_true", help="take over from a host that died")
    options = parser.parse_args(arguments[:split])
    command = arguments[split + 1 :]
    if bool(command) == options.adopt:
        parser.error("give either --adopt or -- and the trainer's command line")
    run = RunDir(options.dir)
    attempt = run.attempt(options.attempt)
    lock = _only_host(attempt)
    if lock is None:
        return EXIT_ANOTHER
    with lock:
        return Host(run, attempt).run(None if options.adopt else command)


if __name__ == "__main__":
    sys.exit(main())
