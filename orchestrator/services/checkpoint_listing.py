"""The files of a checkpoint with their sizes, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

from orchestrator.selectors.inputs import store_key
from orchestrator.services.checkpoints import checkpoint_files, checkpoint_folder, in_store

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
    """Where it lies, and its files by name. Raises ValueError when they are out of this server's reach."""
    if found := in_store(checkpoint):
        there = [
            ListedFile(name, found["sizes"][name], sha256)
            for name, sha256 in found["files"].items()
        ]
        return f"{settings.ANNEAL_ARTIFACTS_URL}/{store_key(checkpoint)}", _sorted(there)
    folder = checkpoint_folder(checkpoint)
    files = []
    for name, sha256 in sorted(checkpoint_files(checkpoint).items(), key=lambda one: one[0]):
        path = folder / name
        files.append(ListedFile(name, path.stat().st_size if path.is_file() else None, sha256))
    return str(folder), _sorted(files)


def _sorted(files: list[ListedFile]) -> list[ListedFile]:
    return sorted(files, key=lambda file: ("/" in file.name, file.name))
