"""Start and stop the embedded PostgreSQL of one DATA; any number of processes may try at once."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg

from orchestrator.postgres import home, initdb, server
from orchestrator.postgres.record import (
    connection_words,
    record_path,
    record_read,
    record_write,
    url,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.postgres.record import Record

READY_WITHIN = 60.0  # seconds; crash recovery after a long session takes some
STARTS = 12  # attempts before a server that keeps giving up is given up
FAST_WITHIN = 20.0  # seconds for a fast shutdown, which ends every session and writes a checkpoint


class DatabaseError(ValueError):
    """The embedded database cannot be started or stopped; the text says why."""


def ensure_running(data_dir: Path) -> str:
    """Start the database unless it answers already, and return its URL; it stays up."""
    with lock(data_dir):
        start(data_dir)
        lent_mark(data_dir).unlink(missing_ok=True)
    return url(data_dir)


def stop(data_dir: Path) -> None:
    """Stop the database if it runs; what was committed stays."""
    record = record_read(data_dir)
    if record is None:
        return
    with lock(data_dir):
        halt(record)
        lent_mark(data_dir).unlink(missing_ok=True)


def remove(data_dir: Path) -> None:
    """Stop the database and delete it with everything it holds."""
    record = record_read(data_dir)
    if record is None:
        return
    with lock(data_dir):
        halt(record, data_matters=False)
        shutil.rmtree(record.home, ignore_errors=True)
        shutil.rmtree(record.socket, ignore_errors=True)
        record_path(data_dir).unlink(missing_ok=True)


def postmaster_pid(data_dir: Path) -> int | None:
    """Return the process id of this DATA's server while it lives."""
    record = record_read(data_dir)
    found = server.postmaster(record) if record else None
    return found.pid if found else None


def lent_mark(data_dir: Path) -> Path:
    """Return the file that says: the server was started by a command, for its own duration."""
    return data_dir / "postgres.lent"


@contextlib.contextmanager
def lock(data_dir: Path) -> Iterator[None]:
    """Let one process at a time start or stop the database; the kernel frees it at a kill."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "postgres.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def start(data_dir: Path) -> bool:
    """Make the cluster if there is none, start it if it is down; False when it was up already."""
    record = record_read(data_dir)
    if record is None:
        record = home.record_make(data_dir)
        record_write(data_dir, record)
    elif not Path(record.home).is_dir():
        raise DatabaseError(
            f"its folder {record.home} is gone. Bring it back, or delete {record_path(data_dir)} "
            "to begin with an empty database."
        )
    if not home.socket_dir_is_ours(record):
        halt(record)
        socket = home.socket_dir(Path(record.home), record.account)
        record = dataclasses.replace(record, socket=str(socket))
        record_write(data_dir, record)
    was_up = server.postmaster(record) is not None
    if not was_up:
        initdb.cluster_ensure(record)
    _wait_until_it_answers(data_dir, record)
    return not was_up


def _wait_until_it_answers(data_dir: Path, record: Record) -> None:
    """Connect for real until it works, starting the server whenever it is not there.

    After a kill the old server's children hold the memory for about a second, so that a
    new one gives up: it is started again.
    """
    log = data_dir / "logs" / "database.log"
    deadline = time.monotonic() + READY_WITHIN
    refusal = "it did not answer in time"
    starts = 0
    while time.monotonic() < deadline:
        if server.postmaster(record) is None:
            if starts == STARTS:
                break
            time.sleep(0.1 * min(starts, 5))
            server.launch(record, log)
            starts += 1
        try:
            with psycopg.connect(**connection_words(record), connect_timeout=5) as connection:
                connection.execute("SELECT 1")
            return
        except psycopg.OperationalError as error:
            refusal = str(error).strip()
            time.sleep(0.05)
    raise DatabaseError(f"{refusal}\nThe last lines of {log}:\n{server.last_words(log)}")


def halt(record: Record, *, data_matters: bool = True) -> None:
    """End the server: politely, then firmly, then by force with its children."""
    process = server.postmaster(record)
    if process is None:
        return
    fast, at_once = (signal.SIGINT, FAST_WITHIN), (signal.SIGQUIT, 5.0)
    for name, within in (fast, at_once) if data_matters else (at_once,):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(name)
        if server.gone(process, within):
            return
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in [process, *process.children(recursive=True)]:
            one.kill()
    if not server.gone(process, 5.0):
        raise DatabaseError(f"process {process.pid} does not end.")
