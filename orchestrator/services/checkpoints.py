"""Checkpoints as files: where they lie, and which of them may be read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.conf import settings

from orchestrator.selectors.inputs import holder_of

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Checkpoint


def checkpoint_folder(checkpoint: Checkpoint) -> Path:
    """The folder on this server's disk. Raises ValueError when it is not here."""
    folder: Path = settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path
    if checkpoint.deleted is None and (folder / "manifest.json").is_file():
        return folder
    holder = holder_of(checkpoint)
    where = "were removed" if checkpoint.deleted or holder is None else f"lie on {holder.name}"
    raise ValueError(f"The files of this checkpoint {where}.")


def checkpoint_files(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of each file, as the manifest has it."""
    manifest = json.loads((checkpoint_folder(checkpoint) / "manifest.json").read_text())
    return dict(manifest["files"])


def checkpoint_file(checkpoint: Checkpoint, name: str) -> Path:
    """The path of one file. Raises ValueError for a name that the manifest does not hold."""
    folder = checkpoint_folder(checkpoint)
    if name == "manifest.json":
        return folder / name
    # Only names of the manifest are ever opened: no name can lead out of the folder.
    if name not in checkpoint_files(checkpoint) or not _inside(folder, folder / name):
        raise ValueError(f"This checkpoint holds no file {name}.")
    return folder / name


def _inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
