"""The files of a checkpoint with their sizes, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.services.checkpoints import checkpoint_files, checkpoint_folder

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint


@dataclass(frozen=True)
class ListedFile:
    """One file."""

    name: str
    bytes: int | None
    """None when the manifest names a file that is not there."""
    sha256: str


def checkpoint_listing(checkpoint: Checkpoint) -> tuple[str, list[ListedFile]]:
    """The folder, and its files by name. Raises ValueError when they are not on this server."""
    folder = checkpoint_folder(checkpoint)
    files = []
    for name, sha256 in sorted(checkpoint_files(checkpoint).items(), key=lambda one: one[0]):
        path = folder / name
        files.append(ListedFile(name, path.stat().st_size if path.is_file() else None, sha256))
    return str(folder), sorted(files, key=lambda file: ("/" in file.name, file.name))
