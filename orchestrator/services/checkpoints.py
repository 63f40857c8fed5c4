"""Checkpoints as files: where they lie, and which of them may be read."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from django.conf import settings

from orchestrator.artifacts.store import StoredFile, store_at
from orchestrator.selectors.inputs import holder_of, store_key
from orchestrator.selectors.reach import is_stored
from orchestrator.services.checkpoint_copies import MANIFEST, copy_folder
from orchestrator.services.store_copies import listing_read

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
    """SHA-256 of each file, as the manifest has it. Raises ValueError when they are out of the server's reach."""
    if found := in_store(checkpoint):
        return dict(found["files"])
    manifest = json.loads((checkpoint_folder(checkpoint) / MANIFEST).read_text())
    return dict(manifest["files"])


def in_store(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """`files` and `sizes` of a checkpoint that is to be had from the artifact store alone; else None."""
    try:
        checkpoint_folder(checkpoint)
    except ValueError:
        return listing_read(checkpoint) if store_key(checkpoint) else None
    return None


def checkpoint_file(checkpoint: Checkpoint, name: str) -> Path | StoredFile:
    """One file, here or in the artifact store. Raises ValueError for a name that the manifest does not hold."""
    if found := in_store(checkpoint):
        if name not in found["sizes"]:
            raise ValueError(f"This checkpoint holds no file {name}.")
        store = store_at(settings.ANNEAL_ARTIFACTS_URL)
        return StoredFile(store, f"{store_key(checkpoint)}/{name}", found["sizes"][name])
    folder = checkpoint_folder(checkpoint)
    if name == MANIFEST:
        return folder / name
    # Only names of the manifest are ever opened: no name can lead out of the folder.
    if name not in checkpoint_files(checkpoint) or not _inside(folder, folder / name):
        raise ValueError(f"This checkpoint holds no file {name}.")
    return folder / name


def _inside(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())
