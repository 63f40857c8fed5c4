"""A little room on the disk, taken while there is some, and given back when the last words must be written."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 256 << 10
"""Bytes: the last words of trainer and host with the end of the log, several times over."""


class Reserve:
    """The room of one attempt."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> None:
        """Take it; a disk that is full already leaves none to take."""
        try:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        except OSError:
            return
        try:
            os.posix_fallocate(file, 0, SIZE)
        except OSError:
            self.give()
        finally:
            os.close(file)

    def give(self) -> None:
        """Give it back."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def disk_is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room for another line."""
    try:
        room = os.statvfs(folder)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 2 * room.f_bsize
