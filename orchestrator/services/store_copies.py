"""Checkpoints in the artifact store, as the server keeps account of them.

Nodes that can speak to the store put them there and say so; what other nodes sent to the server is passed on. The
server looks for itself before one counts, keeps what it found as a small listing on its own disk (so that no page
and no request waits for the store), and removes what the keep policy or a person removed. All of this is the work
of one thread of the control worker.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from orchestrator.artifacts.delivery import checkpoint_put
from orchestrator.data_dir import private_write
from orchestrator.models import Checkpoint, Event
from orchestrator.selectors.inputs import run_key, store_key
from orchestrator.selectors.reach import is_stored
from orchestrator.services import checkpoint_copies
from orchestrator.services.checkpoint_copies import (
    MANIFEST,
    MANIFEST_MOST,
    copy_folder,
    goes_for_good,
    manifest_files,
)
from orchestrator.services.checkpoint_removals import STORE, checkpoint_left
from orchestrator.services.dispatch import schedule_soon
from orchestrator.services.hints import hint

if TYPE_CHECKING:
    from orchestrator.artifacts.store import Store

log = logging.getLogger(__name__)

ALERT = "artifacts"
GONE = ".gone"
TOLD_EVERY = timedelta(hours=1)
LINGER = 3600.0
"""Seconds for which the store is looked through for a deleted run: a node may have been sending just then."""


def copy_confirm(store: Store, checkpoint_id: str, sha256: str) -> bool:
    """Let a checkpoint count that its node has put into the store, once the server sees all of it there."""
    checkpoint = Checkpoint.objects.select_related("run").filter(pk=checkpoint_id).first()
    if checkpoint is None or checkpoint.sha256 != sha256:
        return False
    if is_stored(checkpoint):
        return copy_forward(store, checkpoint)
    try:
        found = _look(store, checkpoint)
    except ValueError as error:
        copy_waits(checkpoint=checkpoint, message=str(error))
        return False
    _list(checkpoint, found)
    with transaction.atomic():
        mine = Checkpoint.objects.filter(pk=checkpoint.pk, sha256=sha256)
        stored = mine.update(stored=sha256) == 1
        # A run may have waited for just this.
        transaction.on_commit(schedule_soon)
    _superseded_free_both(store, checkpoint.run_id)
    return stored


def copies_forward(store: Store) -> None:
    """Pass on every whole copy on this server's disk: of nodes without the store, or from before there was one."""
    for folder in sorted((_artifacts() / "checkpoints").glob("*/*")):
        if folder.name.endswith(GONE):
            shutil.rmtree(folder, ignore_errors=True)
        step = folder.name.partition("-")[0]
        if "." in folder.name or not step.isdecimal():
            continue
        row = Checkpoint.objects.filter(run_id=folder.parent.name, step=int(step)).first()
        if row is not None and is_stored(row) and copy_folder(row) == folder:
            copy_forward(store, row)


def copy_forward(store: Store, checkpoint: Checkpoint) -> bool:
    """Put the server's own copy of a checkpoint into the store and free its disk; False without such a copy."""
    folder = copy_folder(checkpoint)
    note = folder.with_name(f"{folder.name}.sent") / "files.json"
    try:
        key, sha256 = store_key(checkpoint), checkpoint.sha256
        checkpoint_put(store, folder, key=key, sha256=sha256, note=note)
        _list(checkpoint, _look(store, checkpoint))
        gone = folder.with_name(f"{folder.name}{GONE}")
        folder.rename(gone)
    except FileNotFoundError:
        # It is there already, or its run was deleted just now.
        return False
    except ValueError as error:
        copy_waits(checkpoint=checkpoint, message=str(error), where="on this server")
        return False
    shutil.rmtree(gone, ignore_errors=True)
    shutil.rmtree(note.parent, ignore_errors=True)
    _superseded_free_both(store, checkpoint.run_id)
    return True


def _look(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    """The manifest and the size of every file. Raises ValueError when the store does not hold all of it."""
    key = store_key(checkpoint)
    manifest = store.read(f"{key}/{MANIFEST}", MANIFEST_MOST)
    if manifest is None:
        raise ValueError(
            f"ANNEAL_ARTIFACTS_URL: the server finds no {key}/{MANIFEST} in {store.url}, where the node says it "
            "put the checkpoint; make it the same place for both."
        )
    if hashlib.sha256(manifest).hexdigest() != checkpoint.sha256:
        raise ValueError(f"{MANIFEST} of step {checkpoint.step} in {store.url} is another one.")
    files, sizes = manifest_files(manifest), store.sizes(key)
    if missing := sorted(files.keys() - sizes.keys()):
        raise ValueError(f"{missing[0][:200]} of step {checkpoint.step} is missing in {store.url}.")
    kept = {name: sizes[name] for name in (*files, MANIFEST)}
    if checkpoint.bytes and sum(kept.values()) != checkpoint.bytes:
        raise ValueError(
            f"The files of step {checkpoint.step} in {store.url} have {sum(kept.values())} bytes; "
            f"{checkpoint.bytes} were announced."
        )
    return {"files": files, "sizes": kept}


def copy_waits(*, checkpoint: Checkpoint, message: str, where: str = "on its node") -> None:
    """Tell people why a checkpoint is not in the store yet: once an hour for the same reason."""
    what = {"run_id": checkpoint.run_id, "source": "server", "type": "alert"}
    recent = Event.objects.filter(**what, time__gt=timezone.now() - TOLD_EVERY)
    if recent.filter(data__code=ALERT, data__reason=message).exists():
        return
    told = f"The checkpoint of step {checkpoint.step} waits {where}. {message}"
    data = {"level": "warning", "code": ALERT, "message": told, "reason": message}
    attempt = checkpoint.attempt
    Event.objects.create(**what, attempt=attempt, time=timezone.now(), data=data)
    hint("run", run=checkpoint.run_id)


def _superseded_free_both(store: Store, run_id: str) -> None:
    superseded_free(store, run_id)
    checkpoint_copies.superseded_free(run_id)


def superseded_free(store: Store, run_id: str) -> None:
    """Free what somebody has deleted, and what the run's keep policy has removed once something newer is there."""
    rows = {_name(row): row for row in Checkpoint.objects.filter(run_id=run_id)}
    kept = [row for row in rows.values() if is_stored(row) and row.deleted is None]
    newest = max(((row.attempt, row.step) for row in kept), default=(0, 0))
    for name in store.folders(run_key(run_id)):
        row = rows.get(name)
        # Without a row it belongs to a step that was saved again since.
        if row is None or goes_for_good(row, newest):
            if row is not None:
                # First: a copy that counts must be whole, wherever this is cut off.
                Checkpoint.objects.filter(pk=row.pk, stored=row.stored).update(stored="")
                listing_path(row).unlink(missing_ok=True)
            _remove(store, f"{run_key(run_id)}/{name}")


def run_leaves(run_id: str) -> None:
    """Note that a deleted run's objects are to go from the store; survives this process."""
    shutil.rmtree(_listings(run_id), ignore_errors=True)
    if settings.ANNEAL_ARTIFACTS_URL:
        private_write(_leaving() / run_id, "")


def leaving_free(store: Store) -> None:
    """Remove what deleted runs have in the store; the note goes when nobody can be sending any more."""
    for note in sorted(_leaving().iterdir()) if _leaving().is_dir() else ():
        if note.name.startswith("."):
            continue
        for name in store.folders(run_key(note.name)):
            _remove(store, f"{run_key(note.name)}/{name}")
        if time.time() - note.stat().st_mtime > LINGER:
            note.unlink()


def deleted_free(store: Store) -> None:
    """Remove from the store what somebody has deleted, and note that it is gone."""
    for row in Checkpoint.objects.filter(leaves__contains=[STORE]):
        held = sum(store.sizes(store_key(row)).values())
        superseded_free(store, row.run_id)
        if not store.sizes(store_key(row)):
            checkpoint_left(row.pk, STORE, held)


def listing_path(checkpoint: Checkpoint) -> Path:
    """The file that says what the store holds of a checkpoint: `files` and `sizes` by name."""
    return _listings(checkpoint.run_id) / f"{_name(checkpoint)}.json"


def listing_read(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """What the store holds of a checkpoint; None when it does not count there."""
    if not is_stored(checkpoint):
        return None
    try:
        found: dict[str, Any] = json.loads(listing_path(checkpoint).read_text())
    except FileNotFoundError:
        return None
    return found


def _list(checkpoint: Checkpoint, found: dict[str, Any]) -> None:
    private_write(listing_path(checkpoint), json.dumps(found))


def _remove(store: Store, key: str) -> None:
    """Remove a checkpoint, its manifest first: without it what is left is no checkpoint."""
    store.remove(f"{key}/{MANIFEST}")
    store.remove(key)


def _name(checkpoint: Checkpoint) -> str:
    return f"{checkpoint.step}-{checkpoint.sha256[:16]}"


def _artifacts() -> Path:
    return Path(settings.ANNEAL_DATA_DIR) / "artifacts"


def _listings(run_id: str) -> Path:
    return _artifacts() / "listed" / run_id


def _leaving() -> Path:
    return _artifacts() / "leaving"
