"""The artifact store's state, as the control worker saw it last, and what waits to be put there."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import F

from orchestrator.models import Checkpoint, Removal

OK = "ok"
SEEN_WITHIN = 180.0
"""Seconds after which what was seen of the store says nothing of now."""


@dataclass(frozen=True)
class StoreState:
    """What is known of the artifact store."""

    url: str
    state: str
    """"ok" or a sentence that says what to change."""
    waiting: int
    """Checkpoints that are not in it yet; each is kept on the disk of its node, or on the server's."""

    @property
    def works(self) -> bool:
        """Whether it answered lately."""
        return self.state == OK


def store_state() -> StoreState | None:
    """The store that server and nodes share; None when they share none."""
    url = settings.ANNEAL_ARTIFACTS_URL
    return StoreState(url, _seen(url), checkpoints_waiting()) if url else None


def checkpoints_waiting() -> int:
    """How many kept checkpoints lie on the disk of a node or of this server and not in the store."""
    here = (Path(settings.ANNEAL_DATA_DIR) / "artifacts" / "checkpoints").glob("*/*")
    leaving = Removal.objects.filter(node=None, done=None).values("run_id")
    kept = Checkpoint.objects.filter(deleted=None).exclude(stored=F("sha256"))
    whole = sum(1 for folder in here if "." not in folder.name)
    return whole + kept.exclude(run__in=leaving).count()


def state_path() -> Path:
    """Where the control worker notes what it saw of the store: `url`, `state`, `seen` (Unix seconds)."""
    return Path(settings.ANNEAL_DATA_DIR) / "artifacts" / "state.json"


def _seen(url: str) -> str:
    try:
        found = json.loads(state_path().read_text())
    except (FileNotFoundError, ValueError):
        return "The control worker has not looked at it yet."
    age = time.time() - found["seen"]
    if found["url"] != url or age > SEEN_WITHIN:
        return "The control worker has not looked at it lately."
    return str(found["state"])
