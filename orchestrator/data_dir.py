"""Where Anneal keeps its data, and how it writes files that only their owner may read there."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

PROJECT_DIR = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """Return DATA as an absolute path: `ANNEAL_DATA_DIR`, or `var` beside manage.py."""
    named = os.environ.get("ANNEAL_DATA_DIR")
    return Path(os.path.abspath(named)) if named else PROJECT_DIR / "var"


def alive_path(directory: Path, name: str) -> Path:
    """The file that a part touches for as long as it works."""
    return directory / "alive" / name


def private_write(path: Path, text: str) -> None:
    """Write `text` so that readers see the old file or the whole new one; mode 0600."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def secret_key(directory: Path) -> str:
    """Return the signing key of this DATA; the first caller makes it."""
    path = directory / "secret_key"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f".secret_key.{os.getpid()}"
        private_write(draft, secrets.token_urlsafe(48))
        # A link never replaces: of two processes that start together, both use the first one's key.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return path.read_text(encoding="utf-8").strip()
