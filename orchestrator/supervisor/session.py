"""One life of `up`: claim DATA, start everything, keep it up, and end it in order."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from django.db import connections

from orchestrator.supervisor.address import port_claim
from orchestrator.supervisor.announce import announce, browser_open
from orchestrator.supervisor.health import is_healthy
from orchestrator.supervisor.ledger import Ledger, leftovers_end
from orchestrator.supervisor.opening import (
    accounts_open,
    database_open,
    host_names_check,
    host_password_check,
)
from orchestrator.supervisor.part import DatabasePart
from orchestrator.supervisor.parts import parts
from orchestrator.supervisor.supervise import Supervisor, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import User
    from orchestrator.supervisor.parts import Wanted

HEALTHY_WITHIN = 60.0  # seconds before we say that something takes too long

ARRIVED_WITHIN = 15.0  # seconds for the last journal lines of a run that has ended


@dataclasses.dataclass(frozen=True)
class Extras:
    """What `up` does beside keeping the parts up."""

    demo: bool = False
    until_done: bool = False
    browser: bool = True


def live(wanted: Wanted, extras: Extras) -> int:
    """Run Anneal until it is told to stop; return the exit code."""
    host_names_check(wanted.host)
    ledger = Ledger(wanted.data_dir)
    ledger.claim()
    supervisor = Supervisor(ledger, threading.Event())
    try:
        with stop_signals(supervisor.stopping):
            return _live(wanted, extras, ledger, supervisor)
    finally:
        ledger.close()


@contextlib.contextmanager
def stop_signals(stopping: threading.Event) -> Iterator[None]:
    """Turn Ctrl-C, TERM and a closed terminal into a request to stop."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is below nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopping.set()) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _live(wanted: Wanted, extras: Extras, ledger: Ledger, supervisor: Supervisor) -> int:
    if leftovers := leftovers_end(ledger):
        say(f"Ended what an earlier start left behind (processes {', '.join(leftovers)}).")
    wanted = dataclasses.replace(wanted, port=port_claim(wanted.host, wanted.port))
    ledger.url = f"{wanted.url}/"
    ledger.write()
    try:
        admin = _start(wanted, ledger, supervisor)
        if not supervisor.stopping.is_set():
            _welcome(wanted, extras, admin)
        if extras.demo and admin is not None and not supervisor.stopping.is_set():
            return _demo(admin, supervisor, until_done=extras.until_done)
        supervisor.watch()
        return 0
    finally:
        _end(supervisor)


def _start(wanted: Wanted, ledger: Ledger, supervisor: Supervisor) -> User | None:
    """Start every part and wait until all of them work together."""
    if not os.environ.get("DATABASE_URL"):
        supervisor.start(DatabasePart(wanted.data_dir))
    database_open(wanted.data_dir)
    admin = accounts_open(wanted.data_dir)
    host_password_check(wanted.host)
    for part in parts(wanted, ledger.token).values():
        supervisor.start(part)
    deadline = time.monotonic() + HEALTHY_WITHIN
    while not supervisor.stopping.is_set() and not is_healthy(wanted.url):
        supervisor.watch(0.1)
        if supervisor.degraded or time.monotonic() > deadline:
            say(f"Not everything works yet; {wanted.url}/api/health and the logs say what.")
            break
    return admin


def _welcome(wanted: Wanted, extras: Extras, admin: User | None) -> None:
    from orchestrator.services.tokens import login_link_create  # noqa: PLC0415

    link = f"{wanted.url}/login/link/{login_link_create(user=admin)}/" if admin else ""
    announce(wanted, link)
    if extras.browser:
        browser_open(link or wanted.url)


def _demo(admin: User, supervisor: Supervisor, *, until_done: bool) -> int:
    """Launch the starter pipeline and follow it to its end."""
    from orchestrator.services.demo import demo_launch  # noqa: PLC0415
    from orchestrator.supervisor.demo import Follower  # noqa: PLC0415

    follower = Follower([run.pk for run in demo_launch(owner=admin)])
    ended = False
    while not (ended or supervisor.stopping.is_set() or (until_done and supervisor.degraded)):
        supervisor.watch(0.5)
        ended = follower.look()
    deadline = time.monotonic() + ARRIVED_WITHIN
    while ended and not follower.everything_arrived() and time.monotonic() < deadline:
        supervisor.watch(0.2)
    if ended:
        print(f"\n{follower.table()}\n", flush=True)
    if not until_done:
        supervisor.watch()
        return 0
    return 0 if ended and follower.all_finished() else 1


def _end(supervisor: Supervisor) -> None:
    """Let local runs checkpoint while the server still listens, then end every process."""
    if "node" in supervisor.kept:
        say("Stopping; running jobs have 10 s to save a checkpoint.")
        _runs_release()
    supervisor.stop()
    say("Stopped.")


def _runs_release() -> None:
    from orchestrator.services.release import runs_release_local  # noqa: PLC0415

    # Whatever goes wrong here, the processes are ended below and the journals keep their lines.
    try:
        connections.close_all()  # the database may have been started again since
        runs_release_local(reason="server stopped")
    except Exception as error:
        # The end of everything else must come all the same.
        say(f"Runs could not be put back into the queue ({error}); the next start does it.")
