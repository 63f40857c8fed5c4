"""The server process: find it, launch it, and tell a live one from what a crash left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from orchestrator.postgres.account import identity
from orchestrator.postgres.binaries import programs
from orchestrator.postgres.record import PORT

if TYPE_CHECKING:
    from orchestrator.postgres.record import Record

_launched: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this process started and must reap; they outlive it if it ends first."""


def postmaster(record: Record) -> psutil.Process | None:
    """Return the live server of this cluster, or None.

    The pid in `postmaster.pid` may have been reused since a crash: only a process that works in
    our data directory is ours.
    """
    pid = _pid_in(record.data / "postmaster.pid")
    if pid is None:
        return None
    try:
        process = psutil.Process(pid)
        is_ours = is_alive(pid) and Path(process.cwd()) == record.data
    except (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
        return None
    return process if is_ours else None


def _pid_in(path: Path) -> int | None:
    """Return the number in a lock file's first line."""
    try:
        return int(path.read_text(encoding="utf-8").split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None


def launch(record: Record, log: Path) -> None:
    """Start the server and return when it holds the cluster, or has given up: `log` says why."""
    _orphans_end(record)
    # With a reused pid inside, these files would keep a new server from starting for ever.
    (record.data / "postmaster.pid").unlink(missing_ok=True)
    (Path(record.socket) / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)
    postgres = programs(Path(record.home), record.account) / "postgres"
    command = [str(postgres), "-D", str(record.data), "-k", record.socket]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=clean_environment(),
            start_new_session=True,
            **identity(record.account),
        )
    _launched[child.pid] = child
    while postmaster(record) is None and is_alive(child.pid):
        time.sleep(0.02)


def _orphans_end(record: Record) -> None:
    """End children that outlived a killed server: while one holds the memory, no new one starts."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "postgres" and Path(process.cwd()) == record.data:
                process.kill()


def is_alive(pid: int) -> bool:
    """Say whether a process runs; a zombie does not, and is reaped if it is our child."""
    if pid in _launched and _launched[pid].poll() is not None:
        del _launched[pid]
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def clean_environment() -> dict[str, str]:
    """Return an environment in which no `PG...` or locale variable changes what the server does."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def gone(process: psutil.Process, within: float) -> bool:
    """Wait for a process that may not be our child; a zombie counts as gone."""
    deadline = time.monotonic() + within
    while process.is_running() and is_alive(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def last_words(log: Path, lines: int = 8) -> str:
    """Return the end of a log file."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return "".join(deque(file, lines)).rstrip()
    except FileNotFoundError:
        return "(no log)"
