"""Brings checkpoints from this disk to where others reach them: beside the trainings, from where it stopped.

That is the artifact store, where the server names a key in it and this node can speak to it, and else the server
itself, piece by piece. The server says what it wants in its answers to heartbeats. What is to be sent is first
linked into the outbox: the trainer may then remove it by its keep policy, and the copy still becomes whole.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.artifacts.delivery import checkpoint_put
from orchestrator.artifacts.store import StoreError
from orchestrator.node.server import Refused, Unreachable, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.artifacts.store import Store
    from orchestrator.node.server import Server

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PIECE = 4 << 20
LOOK_EVERY = 1.0
AGAIN_AFTER = 15.0
"""Seconds after which a delivery that failed is tried again; each failure doubles them."""
AGAIN_MOST = 120.0
NICENESS = 15
CHECK_WITHIN = 900.0
"""Seconds that the server may take to check a large file."""


class Gone(Exception):
    """The checkpoint is no longer on this disk."""


@dataclass
class Courier:
    """Delivers one checkpoint at a time."""

    server: Server
    data_dir: Path
    store: Store | None = None
    _wanted: list[dict[str, Any]] = field(default_factory=list)
    _not_before: dict[str, float] = field(default_factory=dict)
    _failures: dict[str, int] = field(default_factory=dict)
    """How often in a row a delivery has failed, by the manifest's SHA-256."""
    _packing: str = ""
    """The folder of the outbox that is being sent."""

    def told(self, wanted: list[dict[str, Any]]) -> None:
        """Note what the server wants now, the most urgent first; forget what it does not want any more."""
        self._wanted = list(wanted)
        names = {self._outbox(place).name for place in wanted} | {self._packing}
        box = self.data_dir / "outbox"
        for folder in box.iterdir() if box.is_dir() else ():
            if folder.name.partition(".")[0] not in names:
                shutil.rmtree(folder, ignore_errors=True)
        wished = {place["sha256"] for place in wanted}
        for one in (self._not_before, self._failures):
            for sha256 in one.keys() - wished:
                del one[sha256]

    def work(self, ending: threading.Event) -> None:
        """Deliver until `ending`; never in the way of a training."""
        with suppress(OSError, AttributeError):
            # Linux gives each thread a niceness of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not ending.wait(LOOK_EVERY):
            now = time.monotonic()
            place = next((one for one in self._wanted if self._due(one) <= now), None)
            if place is not None:
                self._try(place)

    def deliver(self, place: dict[str, Any]) -> None:
        """Send what is not there yet. Raises Gone, Unreachable, Refused, StoreError, or ValueError."""
        copy = f"/checkpoints/{place['checkpoint']}/copy"
        if self.server.get(copy)["stored"]:
            self._outbox_clear(place)
            return
        folder = self._packed(place)
        if place.get("key") and self.store is not None:
            # It stays in the outbox until the server, which looks for itself, wants it no more.
            self._store_put(self.store, folder, place)
            return
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name in [MANIFEST, *files]:
            status = self.server.get(copy)
            if status["stored"]:
                break
            if name not in status["checked"]:
                self._file_send(f"{copy}/{name}", folder / name, status["have"].get(name, 0))
        self._outbox_clear(place)
        log.info("the checkpoint of %s at step %d is on the server", place["run"], place["step"])

    def _store_put(self, store: Store, folder: Path, place: dict[str, Any]) -> None:
        """Put it into the artifact store, then tell the server to look."""
        try:
            note = self._note(place)
            key, sha256 = place["key"], place["sha256"]
            checkpoint_put(store, folder, key=key, sha256=sha256, note=note)
        except FileNotFoundError:
            raise Gone from None
        self.server.post(f"/checkpoints/{place['checkpoint']}/sent", {"sha256": place["sha256"]})
        log.info("the checkpoint of %s at step %d is in the store", place["run"], place["step"])

    def _due(self, place: dict[str, Any]) -> float:
        return self._not_before.get(place["sha256"], 0.0)

    def _try(self, place: dict[str, Any]) -> None:
        self._packing, failed = self._outbox(place).name, True
        try:
            self.deliver(place)
            failed = False
        except Gone:
            log.warning("the checkpoint of %s at step %d is gone", place["run"], place["step"])
            self._lost(place)
        except (Unreachable, Refused, StoreError, ValueError) as error:
            log.warning("the checkpoint of %s waits: %s", place["run"], error)
            if self.store is not None and isinstance(error, (StoreError, ValueError)):
                self._waits(place, str(error))
        except Exception:
            # The next ones must be delivered all the same.
            log.exception("the checkpoint of %s at step %d", place["run"], place["step"])
        finally:
            self._packing = ""
            self._again_later(place["sha256"], failed)

    def _again_later(self, sha256: str, failed: bool) -> None:
        count = self._failures[sha256] = self._failures.get(sha256, 0) + 1 if failed else 0
        wait = min(AGAIN_MOST, AGAIN_AFTER * 2 ** min(max(0, count - 1), 10))
        self._not_before[sha256] = time.monotonic() + wait

    def _waits(self, place: dict[str, Any], why: str) -> None:
        """Let people know why it is not there yet."""
        with suppress(Unreachable, Refused):
            path = f"/checkpoints/{place['checkpoint']}/waits"
            self.server.post(path, {"sha256": place["sha256"], "message": why[:1000]})

    def _lost(self, place: dict[str, Any]) -> None:
        with suppress(Unreachable, Refused):
            path = f"/checkpoints/{place['checkpoint']}/lost"
            self.server.post(path, {"sha256": place["sha256"]})

    def _outbox(self, place: dict[str, Any]) -> Path:
        return self.data_dir / "outbox" / f"{place['checkpoint']}-{place['sha256'][:16]}"

    def _note(self, place: dict[str, Any]) -> Path:
        """Where it stands which files are in the store."""
        outbox = self._outbox(place)
        return outbox.with_name(f"{outbox.name}.sent") / "files.json"

    def _outbox_clear(self, place: dict[str, Any]) -> None:
        shutil.rmtree(self._outbox(place), ignore_errors=True)
        shutil.rmtree(self._note(place).parent, ignore_errors=True)

    def _packed(self, place: dict[str, Any]) -> Path:
        """The checkpoint under names of its own. Raises Gone when it is not on this disk (any more)."""
        packed = self._outbox(place)
        if _is(packed, place["sha256"]):
            return packed
        source = self.data_dir / "runs" / place["run"] / place["path"]
        if not _is(source, place["sha256"]):
            raise Gone
        draft = packed.with_name(f"{packed.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, draft, copy_function=os.link)
            draft.rename(packed)
        except (OSError, shutil.Error):
            # A disk without second names: sent from where it lies, as long as it lies there.
            shutil.rmtree(draft, ignore_errors=True)
            if not _is(source, place["sha256"]):
                raise Gone from None
            return source
        return packed

    def _file_send(self, path: str, file: Path, start: int) -> None:
        """Send a file from `start` on; the server checks it when it is whole."""
        try:
            size = file.stat().st_size
            with file.open("rb") as content:
                content.seek(start)
                checked = False
                while not checked:
                    data = content.read(PIECE)
                    checked = self._piece_send(path, data, start, size)
                    start += len(data)
        except FileNotFoundError:
            raise Gone from None

    def _piece_send(self, path: str, data: bytes, start: int, size: int) -> bool:
        """Send one piece; whether the file is whole and checked with it."""
        span = f"{start}-{start + len(data) - 1}" if data else "*"
        headers = {"Content-Range": f"bytes {span}/{size}"}
        last = start + len(data) >= size
        answer = self.server.put(path, data, headers, timeout=CHECK_WITHIN if last else None)
        if last and not answer["checked"]:
            raise ValueError(f"{path}: the server has {answer['have']} bytes of {size}")
        return bool(answer["checked"])


def _is(folder: Path, sha256: str) -> bool:
    try:
        return sha256_of(folder / MANIFEST) == sha256
    except FileNotFoundError:
        return False
