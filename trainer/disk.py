"""Room on a disk: how much a folder takes up, and giving it back."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BLOCK = 512
"""Unit of `st_blocks`, whatever the file system's own."""


def disk_bytes(folder: Path) -> int:
    """Bytes that a folder takes up: blocks, each file once however often it is linked in there."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            stat = os.lstat(os.path.join(where, name))
            if (stat.st_dev, stat.st_ino) not in seen:
                seen.add((stat.st_dev, stat.st_ino))
                total += stat.st_blocks * BLOCK
    return total


def folders_remove(folders: Iterable[Path]) -> int:
    """Remove the folders that are there; returns the bytes that they took up."""
    freed = 0
    for folder in folders:
        if folder.is_dir():
            freed += disk_bytes(folder)
            shutil.rmtree(folder)
    return freed


def folder_remove(folder: Path) -> None:
    """Remove a checkpoint; cut short, it leaves nothing that has a checkpoint's name."""
    if folder.exists():
        gone = folder.with_name(f"{folder.name}.gone-{os.getpid()}")
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def run_folders(data_dir: Path, run_id: str, checkpoints: Iterable[str]) -> list[Path]:
    """Where a run and fetched copies of its checkpoints lie below a data directory."""
    return [data_dir / "runs" / run_id, *(data_dir / "fetched" / one for one in checkpoints)]
