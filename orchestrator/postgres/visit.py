"""Lend the database to one command: started when it is down, stopped by the last that used it."""

from __future__ import annotations

import contextlib
import fcntl
from typing import TYPE_CHECKING

from orchestrator.postgres.cluster import halt, lent_mark, lock, start
from orchestrator.postgres.record import record_read, url

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def running(data_dir: Path) -> Iterator[str]:
    """Yield the URL of a running database, and leave it as it was found.

    Commands overlap: one that started the server may end first. So each holds a shared lock, and
    the one that ends last stops what a command has started. `ensure_running` takes it over.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "postgres.visitors").open("w") as visitors:
        with lock(data_dir):
            fcntl.flock(visitors, fcntl.LOCK_SH)
            if start(data_dir):
                lent_mark(data_dir).touch()
        try:
            yield url(data_dir)
        finally:
            with lock(data_dir):
                _stop_if_last(data_dir, visitors.fileno())


def _stop_if_last(data_dir: Path, visitors: int) -> None:
    """Stop a lent server when nobody else uses it."""
    record = record_read(data_dir)
    if record is None or not lent_mark(data_dir).exists():
        return
    try:
        fcntl.flock(visitors, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    halt(record)
    lent_mark(data_dir).unlink(missing_ok=True)
