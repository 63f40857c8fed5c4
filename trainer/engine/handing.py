"""What the first process has on its disk and processes on other machines need: handed over through the group.

Machines of a gang share no disk. A folder of the run (the checkpoint to go on from, the warm-up) is compared by
the hashes of its files; what a machine lacks arrives in pieces, is checked, and gets its name when it is whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.ranks import Ranks

PIECE = 1 << 24
"""Bytes in one message."""


def hand_over(ranks: Ranks, folder: Path) -> None:
    """See that `folder`, which the first process has, lies on every machine; each calls it with its own path.

    Raises Failure when what arrived is not what was sent.
    """
    if not ranks.several_machines:
        return
    files: dict[str, list[Any]] = ranks.told(_listed(folder) if ranks.first else None)
    receives = ranks.first_here and not ranks.first
    mine = _lacking(folder, files) if receives else []
    wanted = {name for _, names in ranks.gather({}, mine) for name in names}
    arriving = folder.with_name(f".{folder.name}.arriving")
    if mine:
        shutil.rmtree(arriving, ignore_errors=True)
    for name in sorted(wanted):
        size, sha256 = files[name]
        source = folder / name if ranks.first else None
        target = arriving / name if name in mine else None
        _file(ranks, size, sha256, source, target)
    if mine:
        _complete(folder, arriving, files, set(mine))
    ranks.wait()


def _listed(folder: Path) -> dict[str, list[Any]]:
    """Size and SHA-256 of each file, by its path in the folder."""
    found: dict[str, list[Any]] = {}
    for place, _, names in os.walk(folder, followlinks=True):
        for name in names:
            path = folder.joinpath(place, name)
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = [path.stat().st_size, digest]
    return found


def _lacking(folder: Path, files: dict[str, list[Any]]) -> list[str]:
    """The files that are not here as they should be. Raises Failure for a name outside the folder."""
    here = _listed(folder) if folder.is_dir() else {}
    for name in files:
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise Failure("crash", f"the first machine names a file outside {folder.name}: {name}")
    return [name for name, told in files.items() if here.get(name) != told]


def _file(ranks: Ranks, size: int, sha256: str, source: Path | None, target: Path | None) -> None:
    """Send one file to all; whoever lacks it writes it."""
    read = None if source is None else source.open("rb")
    written = None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        written = target.open("wb")
    digest = hashlib.sha256()
    try:
        for start in range(0, size, PIECE):
            count = min(PIECE, size - start)
            piece = torch.empty(count, dtype=torch.uint8)
            if read is not None:
                piece = torch.frombuffer(bytearray(read.read(count)), dtype=torch.uint8)
            ranks.send(piece)
            if written is not None:
                data = piece.numpy().tobytes()
                digest.update(data)
                written.write(data)
        if written is not None:
            written.flush()
            os.fsync(written.fileno())
            if digest.hexdigest() != sha256:
                raise Failure("crash", f"{target} did not arrive as it was sent")
    finally:
        for file in (read, written):
            if file is not None:
                file.close()


def _complete(folder: Path, arriving: Path, files: dict[str, list[Any]], fresh: set[str]) -> None:
    """Put what arrived beside what was here, under the folder's name."""
    for name in files:
        if name not in fresh:
            (arriving / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / name, arriving / name)
    if folder.exists():
        gone = folder.with_name(f".{folder.name}.gone")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    arriving.rename(folder)
