"""Before `up` goes down: let local runs save a checkpoint, and put them back into the queue."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from orchestrator.models import Attempt, Desired, Node, Process, Run
from orchestrator.selectors.members import members_holding
from orchestrator.services.facts import run_change, run_locked
from orchestrator.services.members import members_end
from trainer.control import Control
from trainer.events import TERMINAL
from trainer.journal import last_event
from trainer.processes import processes_read
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from trainer.rundir import AttemptDir

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
DELIVER_WITHIN = 3.0
TERM_WITHIN, KILL_WITHIN = 2.0, 2.0


def runs_release_local(*, reason: str = "server stopped", deadline: float = 10.0) -> int:
    """Stop every run on this machine with a checkpoint, queue it again; return how many there were.

    What a trainer cannot finish within `deadline` seconds is ended by TERM and KILL.
    """
    Node.objects.filter(local=True).update(closed=timezone.now())
    runs = list(Run.objects.filter(node__local=True, process__in=BUSY))
    further = members_holding().filter(node__local=True).exclude(attempt__run__in=runs)
    attempts = [
        RunDir(settings.ANNEAL_DATA_DIR / "runs" / run.pk).attempt(run.attempt)
        for run in (*runs, *(member.attempt.run for member in further))
    ]
    order = Control("stop", "server-stopped", reason)
    for attempt in attempts:
        if attempt.path.is_dir():
            order.write(attempt.control)
    _wait(attempts, "trainer", deadline)
    for number, within in ((signal.SIGTERM, TERM_WITHIN), (signal.SIGKILL, KILL_WITHIN)):
        for attempt in _with(attempts, "trainer"):
            trainer = processes_read(attempt.processes)["trainer"]
            trainer.signal(number, group=number == signal.SIGKILL)
        _wait(attempts, "trainer", within)
    # Host's last word goes through ship while the server still listens; the rest waits in journals.
    _wait(attempts, "host", DELIVER_WITHIN)
    for run in runs:
        _queue_again(run, reason)
    return len(runs)


def _with(attempts: list[AttemptDir], name: str) -> list[AttemptDir]:
    """The attempts of which the process called `name` still runs."""
    noted = [(attempt, processes_read(attempt.processes).get(name)) for attempt in attempts]
    return [attempt for attempt, process in noted if process is not None and process.alive()]


def _wait(attempts: list[AttemptDir], name: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    while _with(attempts, name) and time.monotonic() < end:
        time.sleep(0.05)


def _queue_again(run: Run, reason: str) -> None:
    """Queue a run whose end has not arrived; journals that arrive later change its attempt only."""
    with transaction.atomic():
        locked = run_locked(run.pk)
        if locked.attempt != run.attempt or locked.process not in BUSY:
            return
        if _finished(locked):
            # Its last lines arrive at the next start and say so.
            return
        asked = {Desired.STOP: "user", Desired.PAUSE: "paused"}.get(Desired(locked.desired))
        run_change(
            locked,
            who="up",
            process=Process.NONE,
            cause=asked or "server-stopped",
            reason=locked.reason if asked else reason,
            phase="",
            last_contact=None,
        )
        Attempt.objects.filter(run=locked, number=locked.attempt, ended=None).update(
            ended=timezone.now(), cause="server-stopped", message=reason
        )
        members_end(locked.pk, locked.attempt)


def _finished(run: Run) -> bool:
    """Whether the trainer came to an end of its own before the order reached it."""
    folder = RunDir(settings.ANNEAL_DATA_DIR / "runs" / run.pk)
    word = last_event(folder.attempt(run.attempt).journal("trainer")) or {}
    return word.get("state") in TERMINAL - {"stopped"} and word.get("cause") != "killed"
