"""The optimizer's state of a divided model in a checkpoint: one safetensors file a rank, and an index in JSON.

trainer/part-R.safetensors holds rank R's rows of every divided tensor, trainer/parts.json says which rows those
are. Nobody ever holds all of it to write it; read back it is whole again, for any number of ranks. Each rank
writes its file beside the checkpoint, from where the first one takes it: what is cut short gets no checkpoint's
name.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from trainer.engine.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

INDEX = "trainer/parts.json"
COMES_WITHIN = 600.0
"""Seconds that the first rank waits for another's file."""


def divided(tensors: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Take the divided tensors out of `tensors`: this rank's rows of them, and their whole shapes."""
    mine: dict[str, torch.Tensor] = {}
    shapes: dict[str, Any] = {}
    for name, value in list(tensors.items()):
        if hasattr(value, "placements"):
            shapes[name] = list(value.shape)
            mine[name] = tensors.pop(name).to_local()  # type: ignore[operator]
    return mine, shapes


def rows_of_ranks(count: int, ranks: int) -> list[list[int]]:
    """[first, behind the last] of each rank, as FSDP divides: equal pieces, the last ones shorter or empty."""
    size = -(-count // ranks)
    return [[min(rank * size, count), min((rank + 1) * size, count)] for rank in range(ranks)]


def part_offer(temporary: Path, rank: int, mine: Mapping[str, torch.Tensor]) -> None:
    """Write a rank's file for whoever publishes the checkpoint that is made in `temporary`."""
    place = _place(temporary, rank)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    save_file(dict(mine), place / "unfinished")
    os.replace(place / "unfinished", place / _name(rank))


def parts_collect(
    temporary: Path, mine: Mapping[str, torch.Tensor], shapes: Mapping[str, Any], ranks: int
) -> None:
    """Put every rank's file and the index into the checkpoint. Raises Failure when one does not come."""
    folder = (temporary / INDEX).parent
    save_file(dict(mine), folder / _name(0))
    deadline = time.monotonic() + COMES_WITHIN
    for rank in range(1, ranks):
        file = _place(temporary, rank) / _name(rank)
        while not file.exists():
            if time.monotonic() > deadline:
                raise Failure("crash", f"rank {rank} has not saved its part of the optimizer")
            time.sleep(0.02)
        os.replace(file, folder / _name(rank))
        shutil.rmtree(file.parent, ignore_errors=True)
    tensors = {
        name: {"shape": shape, "rows": rows_of_ranks(shape[0], ranks)}
        for name, shape in shapes.items()
    }
    index = {"files": [_name(rank) for rank in range(ranks)], "tensors": tensors}
    (temporary / INDEX).write_text(json.dumps(index, indent=1))


def parts_read(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors that a checkpoint holds in parts, whole; none where it was written by one process."""
    path = folder / INDEX
    if not path.exists():
        return {}
    index = json.loads(path.read_text())
    files = [load_file(path.parent / os.path.basename(name)) for name in index["files"]]
    found: dict[str, torch.Tensor] = {}
    for name, entry in index["tensors"].items():
        rows = [file[name] for file in files]
        if [len(part) for part in rows] != [last - first for first, last in entry["rows"]]:
            raise ValueError(f"{path}: the rows of {name} are not those that the index tells of")
        found[name] = torch.cat(rows).reshape(entry["shape"])
    return found


def _name(rank: int) -> str:
    return f"part-{rank}.safetensors"


def _place(temporary: Path, rank: int) -> Path:
    """Beside the checkpoint in the making, under a name that is tidied away like its own."""
    return temporary.with_name(f"{temporary.name}-rank-{rank}")
