"""Checkpoints: a Hugging Face folder plus `trainer/` for exact resuming, published in one rename.

Only safetensors and JSON. A folder named step-N is complete: every file and the folder were on the disk
before it got its name. manifest.json holds the SHA-256 of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file

from trainer.engine.adapted import BASE, adapter_write, is_adapted
from trainer.engine.parts import parts_collect, parts_read
from trainer.engine.snapshot import unflatten

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import torch

    from trainer.engine.policy import Policy
    from trainer.engine.snapshot import Snapshot
    from trainer.rundir import RunDir

MANIFEST = "manifest.json"
STATE_TENSORS, STATE = "trainer/state.safetensors", "trainer/state.json"


@dataclass(frozen=True)
class Label:
    """What a checkpoint says of itself, in its manifest."""

    attempt: int
    step: int
    metrics: dict[str, float] = field(default_factory=dict)
    """The evaluation of this step, where there was one."""
    final: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    """Precision of the weights here and where they came from, versions, hash of the spec."""


@dataclass(frozen=True)
class Published:
    """A complete checkpoint."""

    path: Path
    bytes: int
    sha256: str
    """Of manifest.json."""


def publish(
    folder: Path,
    *,
    policy: Policy,
    snapshot: Snapshot,
    label: Label,
    may_publish: Callable[[], None] = lambda: None,
) -> Published:
    """Write a checkpoint beside `folder` and rename it into place.

    `may_publish` is called right before that and raises where another attempt has taken over.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = made_in(folder, label.attempt, os.getpid())
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        _write_model(temporary, policy, snapshot)
        _write_state(temporary, snapshot)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        manifest = {
            "attempt": label.attempt,
            "step": label.step,
            "metrics": label.metrics,
            "final": label.final,
            **label.about,
            "files": {path.relative_to(temporary).as_posix(): sha256_of(path) for path in files},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        folders = [path for path in temporary.rglob("*") if path.is_dir()]
        for path in [*files, temporary / MANIFEST, *folders, temporary]:
            _fsync(path)
        size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        may_publish()
        _rename_into_place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Published(folder, size, sha256_of(folder / MANIFEST))


def made_in(folder: Path, attempt: int, pid: int) -> Path:
    """Where the process `pid` makes the checkpoint that will be `folder`."""
    return folder.with_name(f"{folder.name}.tmp-{attempt}-{pid}")


def _write_model(folder: Path, policy: Policy, snapshot: Snapshot) -> None:
    policy.tokenizer.save_pretrained(folder)
    if not is_adapted(policy.model):
        # The live model gives its config alone: its weights go on changing meanwhile.
        policy.model.save_pretrained(folder, state_dict=dict(snapshot.weights))
        return
    base = policy.base_folder
    adapter_write(folder, policy.model, snapshot.weights, BASE if base else policy.base_name)
    if base:
        # One copy on the disk, however many checkpoints: each folder can be moved and loaded alone.
        shutil.copytree(base, folder / BASE, copy_function=link)


def link(source: str, target: str) -> None:
    """A second name of a file; a copy where the disk cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _write_state(folder: Path, snapshot: Snapshot) -> None:
    (folder / STATE).parent.mkdir()
    save_file(dict(snapshot.tensors), folder / STATE_TENSORS)
    data = {
        "state": snapshot.state,
        "optimizer": snapshot.optimizer,
        "fingerprint": snapshot.fingerprint,
    }
    (folder / STATE).write_text(json.dumps(data, indent=1))
    if snapshot.shapes:
        parts_collect(folder, snapshot.part, snapshot.shapes, snapshot.ranks)


@dataclass
class Saved:
    """The trainer's part of a checkpoint, read back."""

    folder: Path
    state: dict[str, Any]
    optimizer: dict[str, Any]
    buffers: dict[str, torch.Tensor]
    """Of the learner."""
    random: dict[str, torch.Tensor]
    fingerprint: dict[str, Any]


def read(folder: Path) -> Saved:
    """What `publish` wrote beside the weights."""
    tensors = load_file(folder / STATE_TENSORS) | parts_read(folder)
    raw = json.loads((folder / STATE).read_text())

    def of(part: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}

    optimizer = unflatten(raw["optimizer"], tensors)
    found = raw.get("fingerprint", {})
    return Saved(folder, raw["state"], optimizer, of("learner/"), of("rng/"), found)


def newest(run: RunDir, warn: Callable[[str], None]) -> Path | None:
    """The newest checkpoint whose files are all as its manifest says, or None.

    A damaged one is named to `warn` and left where it is; the one before it is taken.
    """
    tidy(run)
    for folder in _folders(run):
        problem = damage(folder)
        if not problem:
            return folder
        warn(f"{folder.name} is damaged and was passed over: {problem}")
    return None


def _folders(run: RunDir) -> list[Path]:
    """Every folder that has a checkpoint's name, the newest first."""
    if not run.checkpoints.is_dir():
        return []
    matches = (re.fullmatch(r"step-(\d+)", path.name) for path in run.checkpoints.iterdir())
    steps = sorted((int(match[1]) for match in matches if match), reverse=True)
    return [run.checkpoint(step) for step in steps]


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, or ""."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
        names = {str(name): str(expected) for name, expected in files.items()}
    except FileNotFoundError:
        return f"it has no {MANIFEST}"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error})"
    for name in (STATE, STATE_TENSORS):
        if name not in names:
            return f"{MANIFEST} does not name {name}"
    for name, expected in names.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if sha256_of(path) != expected:
            return f"{name} was changed"
    return ""


def manifest_of(folder: Path) -> dict[str, Any]:
    """A checkpoint's manifest; empty when it cannot be read."""
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def published(folder: Path) -> Published:
    """A checkpoint that lies there already."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Published(folder, size, sha256_of(folder / MANIFEST))


def tidy(run: RunDir) -> None:
    """Remove what a killed attempt left half written or half removed; finish a replacement it had begun."""
    if not run.checkpoints.is_dir():
        return
    for path in run.checkpoints.iterdir():
        match = re.fullmatch(r"(step-\d+)\.(tmp|old|gone)-.*", path.name)
        if match is None:
            if re.fullmatch(r"\..*\.tmp", path.name):
                # Of `write_atomic`: a note that did not get its name.
                path.unlink(missing_ok=True)
            continue
        target = path.with_name(match[1])
        if match[2] == "old" and not target.exists():
            os.replace(path, target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove a checkpoint; cut short, it leaves nothing that has a checkpoint's name."""
    gone = folder.with_name(f"{folder.name}.gone-{os.getpid()}")
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rename_into_place(temporary: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old-{os.getpid()}")
    if folder.exists():
        os.replace(folder, old)
    os.replace(temporary, folder)
    _fsync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
