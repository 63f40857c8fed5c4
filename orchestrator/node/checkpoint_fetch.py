"""Fetches a checkpoint onto this disk, from the artifact store or the server; each file counts by its hash."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.artifacts.store import StoreError
from orchestrator.node.server import arrived, part_of, sha256_of
from trainer.disk import folder_remove

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from orchestrator.artifacts.store import Store
    from orchestrator.node.server import Server

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
STORE_WITHIN = 300.0
"""Seconds for which a store that does not answer is waited for before the run goes back to the queue."""
STORE_AGAIN, STORE_AGAIN_MOST = 1.0, 30.0


class Damaged(ValueError):
    """A file of the checkpoint is not what was promised; the text names it."""


@dataclass
class Sources:
    """Where checkpoints come from."""

    server: Server
    store: Store | None = None
    is_over: Callable[[], bool] = lambda: False
    """Whether nobody waits for the checkpoint any more."""

    def fetch(self, place: dict[str, Any], folder: Path) -> None:
        """Fetch the checkpoint of `place`. Raises Damaged, Unreachable, Refused or StoreError."""
        wait, end = STORE_AGAIN, time.monotonic() + STORE_WITHIN
        while True:
            try:
                _fetch(place, folder, self._source(place))
                return
            except StoreError as error:
                if time.monotonic() + wait > end or self.is_over():
                    raise
                log.warning("the checkpoint of %s waits for the store: %s", place["run"], error)
                time.sleep(wait)
                wait = min(2 * wait, STORE_AGAIN_MOST)

    def _source(self, place: dict[str, Any]) -> Source:
        # What was sent to the server before the store was set lies there still.
        key = place.get("key", "") if place.get("in_store") else ""
        if key and self.store is not None and self.store.size(f"{key}/{MANIFEST}") is not None:
            return FromStore(self.store, key)
        return FromServer(self.server, f"/checkpoints/{place['checkpoint']}/files")


class Source(Protocol):
    """One checkpoint's files."""

    def download(self, name: str, target: Path, sha256: str) -> None:
        """Fetch a file; what a broken connection left is continued. Raises ValueError on a wrong hash."""


@dataclass(frozen=True)
class FromServer:
    """By the server's HTTP."""

    server: Server
    base: str

    def download(self, name: str, target: Path, sha256: str) -> None:
        """As Source says."""
        self.server.download(f"{self.base}/{name}", target, sha256)


@dataclass(frozen=True)
class FromStore:
    """Out of the artifact store."""

    store: Store
    key: str

    def download(self, name: str, target: Path, sha256: str) -> None:
        """As Source says."""
        key = f"{self.key}/{name}"
        size = self.store.size(key)
        if size is None:
            raise ValueError(f"{name} is not in {self.store.url}.")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(target, sha256)
        with part.open("ab") as file:
            if file.tell() > size:
                file.truncate(0)
            for piece in self.store.pieces(key, file.tell(), size):
                file.write(piece)
        arrived(part, target, sha256, name)


def is_checkpoint(folder: Path, sha256: str) -> bool:
    """Whether the folder holds this very checkpoint."""
    manifest = folder / MANIFEST
    return manifest.is_file() and (not sha256 or sha256_of(manifest) == sha256)


def _fetch(place: dict[str, Any], folder: Path, source: Source) -> None:
    draft = folder.with_name(f"{folder.name}.fetching")
    try:
        source.download(MANIFEST, draft / MANIFEST, place["sha256"])
        files = json.loads((draft / MANIFEST).read_text())["files"]
        for name, sha256 in files.items():
            target = draft / name
            if not target.resolve().is_relative_to(draft.resolve()):
                raise ValueError(f"its manifest names a file outside it: {name}")
            if not (target.is_file() and sha256_of(target) == sha256):
                source.download(name, target, sha256)
    except ValueError as error:
        raise Damaged(f"The checkpoint of step {place['step']} is damaged: {error}") from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder_remove(folder)
    draft.rename(folder)
