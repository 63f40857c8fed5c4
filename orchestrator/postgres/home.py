"""Choose and make the directories of a cluster, changing no permission outside DATA."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from orchestrator.postgres.account import account_choose, give, reaches
from orchestrator.postgres.binaries import runs_in_place
from orchestrator.postgres.record import PORT, Record

SOCKET_ADDRESS_LIMIT = 107  # bytes, for the directory and the socket's own name
SHARED_HOMES = (Path("/var/lib"), Path("/var/tmp"), Path(tempfile.gettempdir()))


def record_make(data_dir: Path) -> Record:
    """Make the directories of a new cluster and return where they are."""
    account = account_choose()
    home = _home_make(data_dir, account)
    return Record(str(home), str(socket_dir(home, account)), account)


def _home_make(data_dir: Path, account: str) -> Path:
    """Make the cluster's own directory: under DATA, or where the server's account can reach."""
    data_dir.mkdir(parents=True, exist_ok=True)
    # initdb names its programs to a shell, between double quotes: a copy needs a plain path.
    plain = not set('"$`\\') & set(str(data_dir)) or runs_in_place(account)
    if plain and reaches(account, data_dir):
        home = data_dir / "postgres"
        home.mkdir(exist_ok=True)
    else:
        shared = next(place for place in SHARED_HOMES if reaches(account, place))
        home = Path(tempfile.mkdtemp(prefix="anneal-postgres-", dir=shared))
    home.chmod(0o700)
    give(home, account)
    return home


def socket_dir(home: Path, account: str) -> Path:
    """Make and return a private directory whose path a socket address can spell."""
    inside = home / "socket"
    if _fits(inside):
        inside.mkdir(exist_ok=True)
        directory = inside
    else:
        directory = Path(tempfile.mkdtemp(prefix="anneal-", dir="/tmp"))
    directory.chmod(0o700)
    give(directory, account)
    return directory


def _fits(directory: Path) -> bool:
    """Say whether a socket there has a legal address; commas separate hosts, quotes group them."""
    address = os.fsencode(directory / f".s.PGSQL.{PORT}")
    return len(address) <= SOCKET_ADDRESS_LIMIT and not set(b',"') & set(address)


def socket_dir_is_ours(record: Record) -> bool:
    """Say whether the recorded socket directory still fits, is private, and has the right owner."""
    try:
        seen = os.lstat(record.socket)
        owner = os.stat(record.home).st_uid
    except FileNotFoundError:
        return False
    return (
        _fits(Path(record.socket)) and seen.st_uid == owner and seen.st_mode & 0o170777 == 0o040700
    )
