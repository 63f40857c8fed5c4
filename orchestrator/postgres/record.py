"""The file under DATA that says where the embedded database is and how to sign in to it."""

from __future__ import annotations

import dataclasses
import json
import secrets
from pathlib import Path
from typing import Any
from urllib.parse import quote

from orchestrator.data_dir import private_write

PORT = 5432  # only the name of a socket file: the server listens on no network address


@dataclasses.dataclass(frozen=True)
class Record:
    """Where one embedded database lives."""

    home: str
    """Directory of the cluster, its configuration and its socket; belongs to the account below."""

    socket: str
    """Directory of the socket; a path short enough for the 107 bytes of a socket address."""

    account: str
    """Operating-system account that owns `home` and runs the server; "" = our own."""

    user: str = "anneal"
    database: str = "anneal"
    password: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def data(self) -> Path:
        """Return the data directory that initdb made, as the server's own `cwd` spells it."""
        return Path(self.home).resolve() / "data"


def record_path(data_dir: Path) -> Path:
    """Return where the record of this DATA is kept."""
    return data_dir / "postgres.json"


def record_read(data_dir: Path) -> Record | None:
    """Return the record, or None where no embedded database was made yet."""
    try:
        stored = json.loads(record_path(data_dir).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    places = {name: str(data_dir / stored[name]) for name in ("home", "socket")}
    return Record(**{**stored, **places})


def record_write(data_dir: Path, record: Record) -> None:
    """Store the record with mode 0600: it holds the password.

    Places under DATA are stored relative to it, so that DATA can be moved while all is stopped.
    """
    stored = dataclasses.asdict(record)
    for name in ("home", "socket"):
        if Path(stored[name]).is_relative_to(data_dir):
            stored[name] = str(Path(stored[name]).relative_to(data_dir))
    private_write(record_path(data_dir), json.dumps(stored, indent=1))


def connection_words(record: Record) -> dict[str, Any]:
    """Return the record as keyword arguments of `psycopg.connect`."""
    return {
        "host": record.socket,
        "port": PORT,
        "user": record.user,
        "password": record.password,
        "dbname": record.database,
    }


def url(data_dir: Path) -> str:
    """Return the database's URL from the record alone; raises where there is none."""
    record = record_read(data_dir)
    if record is None:
        raise FileNotFoundError(f"No embedded database was made under {data_dir} yet.")
    return (
        f"postgresql://{record.user}:{quote(record.password)}@/{record.database}"
        f"?host={quote(record.socket, safe='')}&port={PORT}"
    )


def django_database(data_dir: Path) -> dict[str, Any]:
    """Return Django's settings of the database, also before it exists."""
    # A directory without a socket gives the clear error of a server that is down.
    record = record_read(data_dir) or Record(str(data_dir), str(data_dir), "", password="")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": record.database,
        "USER": record.user,
        "PASSWORD": record.password,
        "HOST": record.socket,
        "PORT": PORT,
    }
