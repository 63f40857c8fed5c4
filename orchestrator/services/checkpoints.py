"""Checkpoints as files: where they lie, and which of them may be read."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from django.conf import settings

from orchestrator.selectors.inputs import holder_of
from orchestrator.selectors.reach import is_stored
from orchestrator.services.checkpoint_copies import MANIFEST, copy_folder

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Checkpoint


def checkpoint_folder(checkpoint: Checkpoint) -> Path:
    """The folder on this server's disk: its run's own, or the copy. Raises ValueError when it is not here."""
    of_run = settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path
    copy = copy_folder(checkpoint)
    folders: list[Path] = [of_run] if checkpoint.deleted is None else []
    folders += [copy] if is_stored(checkpoint) else []
    for folder in folders:
        if _holds(folder, checkpoint):
            return folder
    holder = holder_of(checkpoint)
    where = "were removed" if checkpoint.deleted or holder is None else f"lie on {holder.name}"
    raise ValueError(f"The files of this checkpoint {where}.")


def _holds(folder: Path, checkpoint: Checkpoint) -> bool:
    """Whether the folder holds this very checkpoint, and not another one of the same step."""
    try:
        manifest = (folder / MANIFEST).read_bytes()
    except OSError:
        return False
    return not checkpoint.sha256 or hashlib.sha256(manifest).hexdigest() == checkpoint.sha256


def checkpoint_files(checkpoint: Checkpoint) -> dict[str, str]:
    """SHA-256 of each file, as the manifest has it."""
    manifest = json.loads((checkpoint_folder(checkpoint) / MANIFEST).read_text())
    return dict(manifest["files"])


def checkpoint_file(checkpoint: Checkpoint, name: str) -> Path:
    """The path of one file. Raises ValueError for a name that the manifest does not hold."""
    folder = checkpoint_folder(checkpoint)
    if name == MANIFEST:
        return folder / name
    # Only names of the manifest are ever opened: no name can lead out of the folder.
    if name not in checkpoint_files(checkpoint) or not _inside(folder, folder / name):
        raise ValueError(f"This checkpoint holds no file {name}.")
    return folder / name


def _inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
