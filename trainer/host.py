"""Hosts one attempt: `python -m trainer.host --dir D --attempt K -- <trainer argv>`.

Starts the trainer in a process group of its own, follows its log, keeps `ship` alive, notices a trainer that
falls silent, enforces the deadlines of a stop, and says how the trainer ended when it could not say so
itself. It runs detached, so that nothing else on the machine that is restarted ever stops a training.
With `--adopt` it takes over from a host that died.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.children import Ship, Trainer
from trainer.control import Control, ControlReader
from trainer.escalation import Escalation
from trainer.events import TERMINAL
from trainer.journal import Journal, Tail, read_events
from trainer.liveness import Touches
from trainer.logtail import LogTail
from trainer.processes import ProcessName, processes_write
from trainer.reserve import Reserve, disk_is_full
from trainer.rundir import AttemptDir, RunDir
from trainer.stall import Told
from trainer.tempo import TEMPO
from trainer.verdict import Verdict, oom_kills, verdict_of_exit, word_read
from trainer.vigil import Vigil

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import IO

LOOK_EVERY = 0.05
LOG_EVERY = 0.3
LINES_PER_EVENT = 500
HEARTBEAT_EVERY, HEARTBEAT_PROMISE = TEMPO.host_heartbeat, 4 * TEMPO.host_heartbeat
SHIP_WITHIN = 20.0
"""Seconds that host waits for ship at the end; ship goes on alone after that."""
EXIT_ANOTHER = 75


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
        self.vigil = Vigil(attempt, self.trainer, self._note, self.told.told)
        self.touches = Touches(attempt.alive("host"))
        self.log = LogTail(attempt.log, _log_offset(attempt))
        self.control = ControlReader(attempt.control)
        self.escalation = Escalation()
        self.oom_before = oom_kills()
        self.spec = SpecWatch(run)
        self.reserve = Reserve(attempt.path / "reserve")
        self.noted = False
        self.log_at = self.beat_at = 0.0

    def run(self, argv: list[str] | None, *, hung_for: float = 0.0) -> int:
        """Start (or find) the trainer, stay with it until it ends, report. Returns its exit code.

        `hung_for`: seconds that a host stood still which was ended and is replaced by this one.
        """
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_end)
        if argv is None:
            self.trainer.adopt()
            self._take_over(hung_for)
            self.reserve.take()
        else:
            # Noted before and after: whoever looks in between finds a host that is alive.
            self._processes_note()
            self.reserve.take()
            self.trainer.start(argv)
        self._processes_note()
        while not self.trainer.ended():
            self._look(time.monotonic())
            time.sleep(LOOK_EVERY)
        self._finish()
        return self.trainer.exit_code or 0

    def _take_over(self, hung_for: float) -> None:
        """Learn what an earlier host has said; the trainer's lines so far are no sign that it lives now."""
        self.vigil.take_over(read_events(self.journal.path))
        self.told.look()
        if hung_for:
            self._note(
                "alert",
                level="warning",
                code="host-hung",
                message=f"Host had stood still for {hung_for:.0f} s; it was ended by its node, and another one "
                "took over. The training went on meanwhile.",
            )

    def _look(self, now: float) -> None:
        self.touches.turn(now)
        spoke = self.told.look()
        if now - self.log_at >= LOG_EVERY:
            self.log_at = now
            self._log_send()
            self._spec_send()
        if now - self.beat_at >= HEARTBEAT_EVERY:
            self.beat_at = now
            self._note("heartbeat", expect_next_in=HEARTBEAT_PROMISE)
            # Counted anew now and then: only a kill of the last seconds can be ours.
            if self.trainer.alive():
                self.oom_before = oom_kills()
            if not self.noted:
                self._processes_note()
        self._ship_keep(now)
        order = self.control.read()
        self.vigil.look(now, spoke=spoke, order=order)
        self.escalation.ask(order, now)
        if number := self.escalation.due(now, self.told.promise):
            self._signal(number)

    def _ship_keep(self, now: float) -> None:
        if self.ship.keep(now):
            self._processes_note()
        if silent := self.ship.hung_for:
            self.ship.hung_for = 0.0
            self._note(
                "alert",
                level="warning",
                code="ship-hung",
                message=f"Ship had stood still for {silent:.0f} s; it was ended and another one delivers what is "
                "left. Nothing is lost: the journals keep it.",
            )

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

    def _spec_send(self) -> None:
        """Report the effective spec whenever the trainer rewrote it with what it had probed."""
        if (raw := self.spec.changed()) is not None:
            self._note("status", state="running", data=raw)

    def _finish(self) -> None:
        """Say how it ended, in the trainer's name when it could not, and let ship deliver all."""
        full = disk_is_full(self.attempt.path)
        self.reserve.give()
        self._log_send(final=True)
        self._spec_send()
        last = list(self.log.last)
        self.told.look()
        told = self.told.last_word
        if told is None:
            verdict = self._verdict(last, disk_full=full)
            told = {"state": verdict.state, "cause": verdict.cause, "message": verdict.message}
            data = {"written_by": "host", **self._facts(), "log": last}
            self._insist(lambda: self._speak_for_trainer({**told, "data": data}))
        word = {key: told.get(key, "") for key in ("state", "cause", "message")}
        self._insist(lambda: self.journal.append("status", **word, **self._facts(), log=last))
        self.journal.close()
        deadline = time.monotonic() + SHIP_WITHIN
        while self.ship.busy() and time.monotonic() < deadline:
            self.touches.turn(time.monotonic())
            self.ship.keep(time.monotonic())
            time.sleep(LOOK_EVERY)

    def _insist(self, write: Callable[[], object]) -> None:
        """Write a last word, waiting for as long as the disk is full."""
        while True:
            try:
                write()
                return
            except OSError:
                self.touches.turn(time.monotonic())
                time.sleep(1)

    def _speak_for_trainer(self, word: dict[str, Any]) -> None:
        with Journal(self.attempt.journal("trainer")) as journal:
            journal.append("status", **word)

    def _verdict(self, last: list[str], *, disk_full: bool) -> Verdict:
        order = self.escalation.order
        if order is not None and (self.escalation.killed or self.escalation.termed_at is not None):
            state = "paused" if order.want == "pause" else "stopped"
            message = order.message or f"asked to {order.want}"
            return Verdict(
                state, order.cause, f"{message}; it did not end in time and was ended by force."
            )
        if (stalled := self.vigil.verdict()) is not None:
            return stalled
        if (word := word_read(self.attempt.word(0))) is not None:
            # It ended itself, as another rank had died and it could not say so.
            return word
        oom = oom_kills() > self.oom_before
        return verdict_of_exit(self.trainer.exit_code, last, oom_killed=oom, disk_full=disk_full)

    def _facts(self) -> dict[str, Any]:
        return {"exit_code": self.trainer.exit_code, "pid": self.trainer.pid}

    def _processes_note(self) -> None:
        noted = {"host": ProcessName.of(os.getpid())}
        if self.trainer.name is not None:
            noted["trainer"] = self.trainer.name
        if self.ship.name is not None:
            noted["ship"] = self.ship.name
        try:
            processes_write(self.attempt.processes, noted)
            self.noted = True
        except OSError:
            # The disk is full: whoever watches the trainer stays, and notes itself later.
            self.noted = False


METRICS_STEP = re.compile(r'"type":"metrics","step":(\d+)')
HEAD = 200
"""Characters of a line in which its type and step stand: what was measured is not read here."""


class TrainerJournal:
    """What the trainer says itself: where it is, its promise, and its last word."""

    def __init__(self, attempt: AttemptDir) -> None:
        self.tail = Tail(attempt.journal("trainer"))
        self.promise = 0.0
        """Seconds within which it said that it would speak; 0 while it has not spoken."""
        self.told = Told()
        self.last_word: dict[str, Any] | None = None

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        spoke = False
        while lines := self.tail.read():
            spoke = True
            for line in lines:
                if '"expect_next_in"' in line or '"type":"status"' in line:
                    self._take(json.loads(line))
                elif (found := METRICS_STEP.search(line, 0, HEAD)) is not None:
                    # Promises come every few seconds, and many steps may lie between two of them.
                    self.told.step = int(found[1])
        return spoke

    def _take(self, event: dict[str, Any]) -> None:
        promise = event.get("expect_next_in")
        if isinstance(promise, (int, float)):
            self.promise = self.told.promise = float(promise)
            self.told.phase = str(event.get("part") or event.get("phase") or self.told.phase)
            self.told.because = str(event.get("because") or "as the trainer promised")
            step = event.get("step")
            self.told.step = step if isinstance(step, int) else self.told.step
        if event.get("type") == "status" and event.get("state") in TERMINAL:
            self.last_word = event
            # It owes no word any more, but an end: a process that does not go keeps its GPUs.
            self.told.phase, self.told.promise = "exit", Told().promise
            self.told.because = "the time to end after its last word"


class SpecWatch:
    """Notices that spec.json was rewritten."""

    def __init__(self, run: RunDir) -> None:
        self.run_dir = run
        self.stamp = (0, 0)

    def changed(self) -> dict[str, Any] | None:
        """spec.json as it stands, when it is another one than at the last look."""
        try:
            stat = self.run_dir.spec_path.stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
            if stamp == self.stamp:
                return None
            raw = self.run_dir.spec_raw()
        except (OSError, ValueError):
            return None
        self.stamp = stamp
        return raw


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
    parser.add_argument(
        "--hung", type=float, default=0.0, help="seconds for which the host before stood still"
    )
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
        return Host(run, attempt).run(None if options.adopt else command, hung_for=options.hung)


if __name__ == "__main__":
    sys.exit(main())
