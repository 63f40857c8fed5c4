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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from trainer.metrics import lower_is_better

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.policy import Policy
    from trainer.rundir import RunDir

MANIFEST = "manifest.json"


@dataclass
class Snapshot:
    """What is saved beside the weights."""

    state: dict[str, Any]
    optimizer: torch.optim.Optimizer
    tensors: dict[str, torch.Tensor]
    """Buffers of the learner: rollouts in hand, cached reference values."""


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
    attempt: int,
    step: int,
    metrics: dict[str, float],
) -> Published:
    """Write a checkpoint beside `folder` and rename it into place."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{folder.name}.tmp-{attempt}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        policy.model.save_pretrained(temporary)
        policy.tokenizer.save_pretrained(temporary)
        _write_trainer(temporary / "trainer", snapshot)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        manifest = {
            "attempt": attempt,
            "step": step,
            "metrics": metrics,
            "files": {path.relative_to(temporary).as_posix(): sha256_of(path) for path in files},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        for path in [*files, temporary / MANIFEST, temporary / "trainer", temporary]:
            _fsync(path)
        size = sum(path.stat().st_size for path in temporary.rglob("*") if path.is_file())
        _rename_into_place(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Published(folder, size, sha256_of(folder / MANIFEST))


def _write_trainer(folder: Path, snapshot: Snapshot) -> None:
    folder.mkdir()
    tensors: dict[str, torch.Tensor] = {}
    optimizer = _flatten(snapshot.optimizer.state_dict(), "optimizer", tensors)
    tensors |= {f"learner/{name}": value for name, value in snapshot.tensors.items()}
    tensors["rng/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["rng/cuda"] = torch.cuda.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(tensors, folder / "state.safetensors")
    text = json.dumps({"state": snapshot.state, "optimizer": optimizer}, indent=1)
    (folder / "state.json").write_text(text)


def _flatten(value: Any, name: str, tensors: dict[str, torch.Tensor]) -> Any:
    """Plain data with every tensor replaced by its name in `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, dict):
        return {
            "items": [
                [key, _flatten(item, f"{name}/{key}", tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, (list, tuple)):
        return {
            type(value).__name__: [
                _flatten(item, f"{name}/{i}", tensors) for i, item in enumerate(value)
            ]
        }
    return {"value": value}


def _restore(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "items" in value:
        return {key: _restore(item, tensors) for key, item in value["items"]}
    if "list" in value:
        return [_restore(item, tensors) for item in value["list"]]
    if "tuple" in value:
        return tuple(_restore(item, tensors) for item in value["tuple"])
    return value["value"]


@dataclass
class Saved:
    """The trainer's part of a checkpoint, read back."""

    state: dict[str, Any]
    optimizer: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def read(folder: Path) -> Saved:
    """Read what `publish` wrote beside the weights, and set the random states."""
    tensors = load_file(folder / "trainer" / "state.safetensors")
    raw = json.loads((folder / "trainer" / "state.json").read_text())
    torch.set_rng_state(tensors["rng/cpu"])
    if "rng/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng/cuda"])
    learner = {
        name.removeprefix("learner/"): value
        for name, value in tensors.items()
        if name.startswith("learner/")
    }
    return Saved(raw["state"], _restore(raw["optimizer"], tensors), learner)


def newest(run: RunDir) -> Path | None:
    """The newest checkpoint whose files are all as its manifest says, or None."""
    tidy(run)
    for step in reversed(run.checkpoint_steps()):
        folder = run.checkpoint(step)
        if not damage(folder):
            return folder
    return None


def damage(folder: Path) -> str:
    """What is wrong with a checkpoint, or ""."""
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{folder / MANIFEST}: {error}"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if sha256_of(path) != expected:
            return f"{path} was changed"
    return ""


def tidy(run: RunDir) -> None:
    """Remove what a killed attempt left half written, and finish a replacement that it had begun."""
    if not run.checkpoints.is_dir():
        return
    for path in run.checkpoints.iterdir():
        match = re.fullmatch(r"(step-\d+)\.(tmp|old)-.*", path.name)
        if match is None:
            continue
        target = path.with_name(match[1])
        if match[2] == "old" and not target.exists():
            os.replace(path, target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def prune(run: RunDir, *, keep_last: int, keep_best: int, metric: str) -> list[int]:
    """Remove checkpoints that are neither among the newest nor among the best; return their steps."""
    steps = run.checkpoint_steps()
    kept = set(steps[-keep_last:])
    values: list[tuple[float, int]] = []
    for step in steps:
        value = metrics_of(run.checkpoint(step)).get(metric)
        if isinstance(value, (int, float)):
            # Ties go to the newer one.
            values.append((value if lower_is_better(metric) else -value, -step))
    kept |= {-step for _, step in sorted(values)[:keep_best]}
    removed = [step for step in steps if step not in kept]
    for step in removed:
        folder = run.checkpoint(step)
        # Without its manifest it is no checkpoint any more, should the removal be cut short.
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return removed


def metrics_of(folder: Path) -> dict[str, Any]:
    """The evaluation that a checkpoint was saved with."""
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text()).get("metrics", {})
    return found


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
