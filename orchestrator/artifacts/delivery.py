"""Puts a checkpoint into the artifact store, file by file, the manifest last: with it the checkpoint is there.

A file that is there counts once its bytes were read back and have the hash of the manifest. What was proven is
noted on this disk, so that whoever is killed goes on with the next file.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.artifacts.store import Store

MANIFEST = "manifest.json"


def checkpoint_put(store: Store, folder: Path, *, key: str, sha256: str, note: Path) -> None:
    """Bring what the store lacks of the checkpoint in `folder` below `key`; `note` is where proven files stand.

    Raises StoreError, FileNotFoundError for a file that is not on this disk (any more), and ValueError that
    names a file whose bytes are wrong here or there.
    """
    files: dict[str, str] = json.loads((folder / MANIFEST).read_text())["files"]
    there, proven = store.sizes(key), _proven(note)
    for name, expected in [*files.items(), (MANIFEST, sha256)]:
        same_size = there.get(name) == (folder / name).stat().st_size
        if same_size and proven.get(name) == expected:
            continue
        if not (same_size and store.sha256(f"{key}/{name}") == expected):
            _file_put(store, folder / name, f"{key}/{name}", expected, name)
        proven[name] = expected
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, json.dumps(proven))


def _file_put(store: Store, file: Path, key: str, expected: str, name: str) -> None:
    with file.open("rb") as content:
        here = hashlib.file_digest(content, "sha256").hexdigest()
    if here != expected:
        raise ValueError(
            f"{name} on this machine's disk is not what its manifest promised; it is not sent."
        )
    store.put(file, key)
    found = store.sha256(key)
    if found != expected:
        store.remove(key)
        came = f"with SHA-256 {found[:12]}…" if found else "not at all"
        raise ValueError(
            f"{name} arrived in {store.url} {came}, {expected[:12]}… was sent; it is sent again."
        )


def _proven(note: Path) -> dict[str, str]:
    """SHA-256 by name of the files that were read back."""
    try:
        found: dict[str, str] = json.loads(note.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return found
