"""The log file of each part: rotated by size before the part starts, read when it dies."""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROTATE_AT = 5 * 2**20
KEEP = 3


def rotate(path: Path) -> None:
    """Move a large log aside: PART.log.1 is the newest of the old ones."""
    if not path.exists() or path.stat().st_size < ROTATE_AT:
        return
    for number in range(KEEP - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            os.replace(older, path.with_name(f"{path.name}.{number + 1}"))
    os.replace(path, path.with_name(f"{path.name}.1"))


def last_lines(path: Path, count: int = 8) -> list[str]:
    """Return the last lines of a log that say something."""
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return list(deque((line.rstrip() for line in file if line.strip()), count))
    except FileNotFoundError:
        return []
