"""Checkpoints with files on the server's disk."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from django.conf import settings

from orchestrator.models import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Run


def folder_of(checkpoint: Checkpoint) -> Path:
    """Where its run keeps it."""
    return settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path


def checkpoint_write(run: Run, step: int, size: int = 1000, **fields: Any) -> Checkpoint:
    """A checkpoint whose files are there and fit its manifest."""
    made = Checkpoint(run=run, attempt=1, step=step, path=f"checkpoints/step-{step}", **fields)
    folder = folder_of(made)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(os.urandom(size))
    (folder / "trainer").mkdir()
    (folder / "trainer" / "state.json").write_text(f'{{"step": {step}}}')
    names = ["model.safetensors", "trainer/state.json"]
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = json.dumps({"attempt": 1, "step": step, "files": hashes})
    (folder / "manifest.json").write_text(manifest)
    made.sha256 = hashlib.sha256(manifest.encode()).hexdigest()
    made.bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    made.save()
    return made
