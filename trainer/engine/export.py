"""Taking a checkpoint out of its run: a merged copy without an adapter, or a repository on a hub.

Both leave out what only resuming needs (`trainer/`, manifest.json) and never change the checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
)

from trainer.engine.adapted import BASE, base_of, is_adapter, merged
from trainer.engine.checkpoint import MANIFEST, damage, manifest_of, sha256_of
from trainer.engine.load import folder_load
from trainer.engine.retention import best_of
from trainer.rundir import RunDir
from trainer.spec import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

LEFT_OUT = ("trainer", MANIFEST, BASE)
PARENTS = "merged.json"
"""In a merged copy: {"parents": [{"sha256", "step"}]}, by the manifest of what it was made from."""
UNFINISHED = (OSError, RuntimeError, HTTPError)
"""What may go wrong though nothing that was asked for is: the disk, the network, the hub."""


def checkpoint_merge(folder: Path, out: Path) -> Path:
    """Write a copy of a checkpoint that plain transformers loads; returns its folder.

    An adapter is added into a copy of its base, in float32: W + (alpha / r) B A. Raises ValueError for
    a folder that is no whole checkpoint, or an `out` that holds something.
    """
    _check(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out: {out} is not empty; name a new folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _write_merged(folder, temporary / "merged")
        if out.exists():
            out.rmdir()
        os.replace(temporary / "merged", out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return out


def _write_merged(folder: Path, target: Path) -> None:
    if is_adapter(folder):
        model, tokenizer = folder_load(str(folder), Model())
        merged(model).save_pretrained(target)
        tokenizer.save_pretrained(target)
    else:
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
    if (folder / MANIFEST).exists():
        parent = {"sha256": sha256_of(folder / MANIFEST), "step": manifest_of(folder).get("step")}
        (target / PARENTS).write_text(json.dumps({"parents": [parent]}))


def checkpoint_push(folder: Path, to: str, *, private: bool, merge: bool) -> str:
    """Upload a checkpoint, or its merged copy, to the repository `to` of a hub; returns its address.

    The hub is HF_ENDPOINT's, the token HF_TOKEN's or that of `hf auth login`. Raises ValueError that says
    what to change: a name, a login, a base that the hub does not have.
    """
    _check(folder)
    if is_adapter(folder) and not merge:
        base = base_of(folder)
        if Path(base).is_dir():
            raise ValueError(
                f"{folder.name} is an adapter whose base lies on this machine alone ({base}): nobody could "
                "load it from the hub; push it with --merge"
            )
    with tempfile.TemporaryDirectory() as temporary:
        source = folder
        if merge:
            source = checkpoint_merge(folder, Path(temporary) / "merged")
        try:
            api = HfApi()
            address = api.create_repo(to, private=private, exist_ok=True)
            api.upload_folder(
                repo_id=to,
                folder_path=source,
                ignore_patterns=_patterns(LEFT_OUT),
                commit_message=f"Upload {folder.name}",
            )
        except HFValidationError as error:
            raise ValueError(f"--to: {error}") from error
        except LocalTokenNotFoundError as error:
            raise ValueError(
                f"--to: no login; set HF_TOKEN or run `hf auth login` ({error})"
            ) from error
        except HfHubHTTPError as error:
            if error.response.status_code >= 500:
                raise
            raise ValueError(f"--to {to}: the hub refused: {_lines(error)}") from error
    return str(address)


def _patterns(names: Sequence[str]) -> list[str]:
    return [pattern for name in names for pattern in (name, f"{name}/*")]


def _check(folder: Path) -> None:
    """Raises ValueError unless the folder holds a whole model or adapter."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there")
    if (folder / "spec.json").exists():
        raise ValueError(
            f"{folder} is a run; name one of its checkpoints{_choices(RunDir(folder))}"
        )
    if not is_adapter(folder) and not (folder / "config.json").exists():
        raise ValueError(f"{folder} holds no model (no config.json, no adapter_config.json)")
    if (folder / MANIFEST).exists() and (problem := damage(folder)):
        raise ValueError(f"{folder} is damaged: {problem}")


def _choices(run: RunDir) -> str:
    steps, best = run.checkpoint_steps(), best_of(run)
    if not steps:
        return " (it has none yet)"
    text = f": the newest is {run.checkpoint(steps[-1])}"
    return text if best is None else f"{text}, the best {best}"


def _lines(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
