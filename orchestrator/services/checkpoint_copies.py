"""Copies of checkpoints on this server: they arrive from nodes in pieces, and count once their hashes are right.

A copy arrives under artifacts/checkpoints/RUN/STEP-HASH.arriving: a file that is not whole is NAME.part, one
whose SHA-256 was checked has its own name. The whole folder is renamed last. Nothing here is lost when this
process, the node or the connection ends: what is on the disk says where to go on.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from orchestrator.models import Attempt, Checkpoint, Removal
from orchestrator.selectors.inputs import checkpoint_place
from orchestrator.selectors.reach import is_stored
from orchestrator.services.dispatch import schedule_soon, sent_tell
from trainer.disk import folders_remove

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Node

MANIFEST = "manifest.json"
MANIFEST_MOST = 4 << 20
PART = ".part"
WANTED_AT_ONCE = 8
RESERVE = 256 << 20
"""Bytes that a copy leaves free on the server's disk."""


class Busy(ValueError):
    """Another piece is being stored at this moment."""


class OutOfPlace(ValueError):
    """A piece that does not begin where the copy ends; `have` says where that is."""

    def __init__(self, have: int) -> None:
        self.have = have
        super().__init__(f"{have} bytes are here; go on from there.")


class DiskFull(ValueError):
    """The server's disk has no room for the copy."""


def copy_folder(checkpoint: Checkpoint) -> Path:
    """Where the copy of a checkpoint lies, whole."""
    return copies_of(checkpoint.run_id) / f"{checkpoint.step}-{checkpoint.sha256[:16]}"


def copies_of(run_id: str) -> Path:
    """Where every copy of a run's checkpoints lies, whole or not."""
    return Path(settings.ANNEAL_DATA_DIR) / "artifacts" / "checkpoints" / run_id


def copies_remove(run_id: str) -> int:
    """Remove every copy of a run's checkpoints from the disk; returns the bytes that they took up."""
    freed = folders_remove([copies_of(run_id)])
    _lock_of(copies_of(run_id)).unlink(missing_ok=True)
    return freed


def copies_wanted(node: Node) -> list[dict[str, Any]]:
    """The checkpoints that lie on this node's own disk alone, newest first: it is to send them.

    With an artifact store the server's own disk counts as one that can be lost, too.
    """
    if node.local and not settings.ANNEAL_ARTIFACTS_URL:
        return []
    here = Checkpoint.objects.filter(
        deleted=None, run__attempts__node=node, run__attempts__number=F("attempt")
    )
    leaving = Removal.objects.filter(node=None, done=None).values("run_id")
    found = here.exclude(stored=F("sha256")).exclude(run__in=leaving).order_by("-created")
    return [place for one in found[:WANTED_AT_ONCE] if (place := checkpoint_place(one))]


def saved_by(node: Node, checkpoint: Checkpoint) -> bool:
    """Whether an attempt of this node saved the checkpoint: nobody else may send it."""
    mine = Attempt.objects.filter(run=checkpoint.run_id, number=checkpoint.attempt, node=node)
    return mine.exists()


def copy_status(checkpoint: Checkpoint) -> dict[str, Any]:
    """What of a copy is here: bytes of each file that has begun, and which files were checked."""
    if is_stored(checkpoint):
        return {"stored": True, "have": {}, "checked": []}
    folder = _arriving(checkpoint)
    names = _names(folder)
    have = {name: size for name in names if (size := _size(folder / f"{name}{PART}")) is not None}
    checked = [name for name in names if (folder / name).is_file()]
    return {"stored": False, "have": have, "checked": checked}


def copy_piece(
    *, checkpoint: Checkpoint, name: str, start: int, total: int, data: bytes
) -> dict[str, Any]:
    """Add a piece to a file of a copy; the last one of the last file makes the copy count.

    Raises Busy, OutOfPlace, DiskFull, and ValueError for a file whose hash is wrong when it is whole.
    """
    folder = _arriving(checkpoint)
    with _alone(folder):
        if copy_folder(checkpoint).is_dir():
            return {"stored": _note_stored(checkpoint), "checked": True, "have": total}
        expected = _expected(checkpoint, folder, name)
        target, part = folder / name, folder / f"{name}{PART}"
        if target.is_file():
            return {
                "stored": _publish_when_whole(checkpoint, folder),
                "checked": True,
                "have": total,
            }
        have = _size(part) or 0
        if start != have or start + len(data) > total:
            raise OutOfPlace(have)
        _room_check(checkpoint, folder, name, total, len(data))
        _append(part, data)
        if have + len(data) < total:
            return {"stored": False, "checked": False, "have": have + len(data)}
        _check(part, target, expected, name)
        return {"stored": _publish_when_whole(checkpoint, folder), "checked": True, "have": total}


def copy_lost(*, checkpoint: Checkpoint, sha256: str) -> bool:
    """Note that the files are no longer on the node's disk, before they arrived here."""
    gone = Checkpoint.objects.filter(pk=checkpoint.pk, sha256=sha256, deleted=None)
    return gone.exclude(stored=F("sha256")).update(deleted=timezone.now()) == 1


def _arriving(checkpoint: Checkpoint) -> Path:
    folder = copy_folder(checkpoint)
    return folder.with_name(f"{folder.name}.arriving")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one writer at a time into a run's copies, of all web processes on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_of(folder.parent).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy("Another piece of this run's checkpoints is being stored.") from None
        yield


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _names(folder: Path) -> list[str]:
    """The files of the copy that may arrive: the manifest, and once it is here what it names."""
    names = [MANIFEST]
    with contextlib.suppress(FileNotFoundError):
        names += json.loads((folder / MANIFEST).read_text())["files"]
    return names


def _expected(checkpoint: Checkpoint, folder: Path, name: str) -> str:
    """The SHA-256 that a file must have. Raises ValueError for a file that does not belong."""
    if name == MANIFEST:
        return checkpoint.sha256
    try:
        files = json.loads((folder / MANIFEST).read_text())["files"]
    except FileNotFoundError:
        raise ValueError(f"Send {MANIFEST} first: it names the files.") from None
    if name not in files:
        raise ValueError(f"The manifest of this checkpoint names no file {name[:200]}.")
    return str(files[name])


def manifest_files(text: bytes) -> dict[str, str]:
    """SHA-256 by name, of a manifest. Raises ValueError unless every file lies inside its folder."""
    try:
        files = json.loads(text)["files"]
        items = [(Path(name), sha256) for name, sha256 in files.items()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{MANIFEST} is not the manifest of a checkpoint: {error}") from error
    for name, sha256 in items:
        odd = name.is_absolute() or ".." in name.parts or not name.parts or name.suffix == PART
        if odd or name.as_posix() == MANIFEST or not isinstance(sha256, str):
            raise ValueError(f"{MANIFEST} names a file outside its folder: {str(name)[:200]}")
    return dict(files)


def _room_check(checkpoint: Checkpoint, folder: Path, name: str, total: int, more: int) -> None:
    if name == MANIFEST:
        if total > MANIFEST_MOST:
            raise ValueError(f"{MANIFEST} is larger than {MANIFEST_MOST >> 20} MiB.")
        return
    others = sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and path != folder / f"{name}{PART}"
    )
    if checkpoint.bytes and others + total > checkpoint.bytes:
        raise ValueError(
            f"{name[:200]}: the files are larger than the {checkpoint.bytes} bytes that were announced."
        )
    free = shutil.disk_usage(folder).free
    if free - more < RESERVE:
        raise DiskFull(
            f"The server's disk has {free >> 20} MiB left, too little for the checkpoint of step "
            f"{checkpoint.step}; free some, and it goes on by itself."
        )


def _append(part: Path, data: bytes) -> None:
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("ab") as file:
        file.write(data)


def _check(part: Path, target: Path, expected: str, name: str) -> None:
    """Give a whole file its name. Raises ValueError, and forgets the file, when it is not the promised one."""
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    if found != expected:
        part.unlink()
        raise ValueError(
            f"{name[:200]} arrived with SHA-256 {found[:12]}…, {expected[:12]}… was promised; "
            "send it again from its beginning."
        )
    if name == MANIFEST:
        manifest_files(part.read_bytes())
    part.rename(target)


def _publish_when_whole(checkpoint: Checkpoint, folder: Path) -> bool:
    """Let the copy count when every file is here and checked."""
    if not all((folder / name).is_file() for name in _names(folder)):
        return False
    _sync(folder)
    folder.rename(copy_folder(checkpoint))
    _sync(folder.parent)
    return _note_stored(checkpoint)


def _note_stored(checkpoint: Checkpoint) -> bool:
    """Count the whole copy on the disk; also one that was renamed right before a server died."""
    shutil.rmtree(_arriving(checkpoint), ignore_errors=True)
    with transaction.atomic():
        mine = Checkpoint.objects.filter(pk=checkpoint.pk, sha256=checkpoint.sha256)
        stored = mine.update(stored=checkpoint.sha256) == 1
        # A run may have waited for just this.
        transaction.on_commit(schedule_soon)
        if settings.ANNEAL_ARTIFACTS_URL:
            transaction.on_commit(partial(sent_tell, checkpoint.pk, checkpoint.sha256))
    superseded_free(checkpoint.run_id)
    return stored


def superseded_free(run_id: str) -> None:
    """Free what somebody has deleted, and what the run's keep policy has removed once something newer is here."""
    if not copies_of(run_id).is_dir():
        return
    rows = {copy_folder(row).name: row for row in Checkpoint.objects.filter(run_id=run_id)}
    kept = [row for row in rows.values() if is_stored(row) and row.deleted is None]
    newest = max(((row.attempt, row.step) for row in kept), default=(0, 0))
    for path in copies_of(run_id).iterdir():
        row = rows.get(path.name.partition(".")[0])
        # Without a row it belongs to a step that was saved again since.
        if row is None or goes_for_good(row, newest):
            shutil.rmtree(path)
            if row is not None:
                Checkpoint.objects.filter(pk=row.pk, stored=row.stored).update(stored="")


def goes_for_good(checkpoint: Checkpoint, newest: tuple[int, int]) -> bool:
    """Whether a copy is wanted no more; `newest`: attempt and step of the newest one that is kept and copied.

    One that people pinned or approved stays here, also when its trainer has removed the files.
    """
    if checkpoint.deleted is None or checkpoint.protection:
        return False
    return bool(checkpoint.deleted_by) or (checkpoint.attempt, checkpoint.step) < newest


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
