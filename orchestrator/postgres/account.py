"""The operating-system account that runs the server: PostgreSQL refuses to be root."""

from __future__ import annotations

import os
import pwd
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CANDIDATES = ("postgres", "nobody")


def account_choose() -> str:
    """Return the account to run the server as; "" means our own."""
    if os.geteuid() != 0:
        return ""
    for name in CANDIDATES:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise ValueError(
        "PostgreSQL does not run as root, and this machine has neither a `postgres` nor a `nobody` "
        "account: start Anneal as another user, or set DATABASE_URL."
    )


def identity(account: str) -> dict[str, Any]:
    """Return the arguments of `subprocess` that make a child run as `account`."""
    if not account:
        return {}
    entry = pwd.getpwnam(account)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give(path: Path, account: str) -> None:
    """Make `account` the owner of one path that we made."""
    if account:
        entry = pwd.getpwnam(account)
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def reaches(account: str, path: Path) -> bool:
    """Say whether `account` can enter or run `path`: one closed parent is enough to hide it."""
    if not account:
        return True
    seen = subprocess.run(
        ["/usr/bin/env", "test", "-x", str(path)], cwd="/", check=False, **identity(account)
    )
    return seen.returncode == 0
