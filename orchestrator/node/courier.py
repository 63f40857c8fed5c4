"""Brings checkpoints from this disk to the server: piece by piece, beside the trainings, from where it stopped.

The server says what it wants in its answers to heartbeats. What is to be sent is first linked into the
outbox: the trainer may then remove it by its keep policy, and the copy still becomes whole.
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

from orchestrator.node.server import Refused, Unreachable, sha256_of

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.node.server import Server

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
PIECE = 4 << 20
LOOK_EVERY = 1.0
AGAIN_AFTER = 15.0
"""Seconds after which a delivery that failed is tried again."""
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
    _wanted: list[dict[str, Any]] = field(default_factory=list)
    _not_before: dict[str, float] = field(default_factory=dict)
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
        """Send what the server has not got yet. Raises Gone, Unreachable, Refused, or ValueError."""
        copy = f"/checkpoints/{place['checkpoint']}/copy"
        if self.server.get(copy)["stored"]:
            shutil.rmtree(self._outbox(place), ignore_errors=True)
            return
        folder = self._packed(place)
        files = json.loads((folder / MANIFEST).read_text())["files"]
        for name in [MANIFEST, *files]:
            status = self.server.get(copy)
            if status["stored"]:
                break
            if name not in status["checked"]:
                self._file_send(f"{copy}/{name}", folder / name, status["have"].get(name, 0))
        shutil.rmtree(self._outbox(place), ignore_errors=True)
        log.info("the checkpoint of %s at step %d is on the server", place["run"], place["step"])

    def _due(self, place: dict[str, Any]) -> float:
        return self._not_before.get(place["sha256"], 0.0)

    def _try(self, place: dict[str, Any]) -> None:
        self._packing = self._outbox(place).name
        try:
            self.deliver(place)
        except Gone:
            log.warning("the checkpoint of %s at step %d is gone", place["run"], place["step"])
            self._lost(place)
        except (Unreachable, Refused, ValueError) as error:
            log.warning("the checkpoint of %s waits: %s", place["run"], error)
        except Exception:
            # The next ones must be delivered all the same.
            log.exception("the checkpoint of %s at step %d", place["run"], place["step"])
        finally:
            self._packing = ""
            self._not_before[place["sha256"]] = time.monotonic() + AGAIN_AFTER

    def _lost(self, place: dict[str, Any]) -> None:
        with suppress(Unreachable, Refused):
            path = f"/checkpoints/{place['checkpoint']}/lost"
            self.server.post(path, {"sha256": place["sha256"]})

    def _outbox(self, place: dict[str, Any]) -> Path:
        return self.data_dir / "outbox" / f"{place['checkpoint']}-{place['sha256'][:16]}"

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
