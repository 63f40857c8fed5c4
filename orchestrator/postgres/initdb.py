"""Make a new cluster: its files, its one role that may sign in, and its settings."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.postgres.account import give, identity
from orchestrator.postgres.binaries import programs
from orchestrator.postgres.server import clean_environment

if TYPE_CHECKING:
    from orchestrator.postgres.record import Record

SETTINGS = """
# Written by Anneal. The server shares a small machine with trainings.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = 64MB
maintenance_work_mem = 64MB
max_wal_size = 1GB
checkpoint_timeout = 15min
wal_compression = on
random_page_cost = 1.1
jit = off
max_parallel_workers_per_gather = 0
log_line_prefix = '%m [%p] '
log_checkpoints = off
log_timezone = 'UTC'
timezone = 'UTC'
"""

# The superuser made by initdb can never sign in; ours may make databases, which tests do.
SIGN_IN = "local all {user} scram-sha-256\n"


def cluster_ensure(record: Record) -> None:
    """Make the cluster of `record` unless it is there; a half-made one is made again."""
    if record.data.exists():
        return
    draft = Path(record.home) / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    directory = programs(Path(record.home), record.account)
    # Nothing is waited for on the way to the disk: a crash of the machine in the first seconds
    # loses an empty database, and beside a busy neighbour the wait was six seconds.
    options = ["--username=postgres", "--encoding=UTF8", "--no-sync", "--no-instructions"]
    options += ["--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
    options += ["--auth-local=reject", "--auth-host=reject"]
    _tool([str(directory / "initdb"), "-D", str(draft), *options], record)
    (draft / "pg_hba.conf").write_text(SIGN_IN.format(user=record.user), encoding="utf-8")
    with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(SETTINGS)
    # Through stdin, so that the password is in no argument list and no second file.
    single = [str(directory / "postgres"), "--single", "-c", "fsync=off", "-D", str(draft)]
    _tool([*single, "postgres"], record, _first_role(record))
    draft.rename(record.data)
    give(record.data, record.account)


def _first_role(record: Record) -> str:
    """Return the statements that make our role and database, one a line."""
    return (
        f"CREATE ROLE {record.user} LOGIN CREATEDB PASSWORD '{record.password}';\n"
        f"CREATE DATABASE {record.database} OWNER {record.user};\n"
    )


def _tool(command: list[str], record: Record, stdin: str = "") -> None:
    """Run one of PostgreSQL's programs as the server's account."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        cwd="/",
        env=clean_environment(),
        check=False,
        **identity(record.account),
    )
    failed = done.returncode != 0 or "ERROR:" in done.stderr or "FATAL:" in done.stderr
    if failed:
        raise ValueError(f"{Path(command[0]).name} failed: {done.stderr.strip()[-800:]}")
