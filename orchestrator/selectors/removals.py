"""Deleted runs and what was freed of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from orchestrator.models import Removal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

SHOWN_FOR = timedelta(minutes=2)
"""How long the list of runs says what was freed."""
SHOWN_MOST = 20


@dataclass(frozen=True)
class Shown:
    """A removal as the list of runs shows it."""

    name: str
    going_on: bool
    words: str


def removals_list(*, page: int = 1, per_page: int = 100) -> tuple[list[Removal], int]:
    """One page, newest first, and how many there are."""
    found = Removal.objects.select_related("node").order_by("-pk")
    start = (page - 1) * per_page
    return list(found[start : start + per_page]), found.count()


def is_being_deleted(run_id: str) -> bool:
    """Whether somebody has asked for a run to be deleted, and it is still there."""
    return Removal.objects.filter(run_id=run_id, node=None, done=None).exists()


def was_deleted(run_id: str) -> bool:
    """Whether there was a run of this id, and somebody has deleted it."""
    return Removal.objects.filter(run_id=run_id).exists()


def removals_shown(now: datetime) -> list[Shown]:
    """Runs that are being deleted and those that have just gone, newest first, for the list of runs."""
    recent = Q(done=None) | Q(done__gt=now - SHOWN_FOR)
    own = Removal.objects.filter(recent, node=None).order_by("-pk")[:SHOWN_MOST]
    there = Removal.objects.filter(run_id__in=[one.run_id for one in own]).exclude(node=None)
    waiting: dict[str, list[str]] = {}
    for one in there.filter(done=None).select_related("node").order_by("pk"):
        waiting.setdefault(one.run_id, []).append(str(one.node))
    return [
        Shown(one.name, one.done is None, removal_words(one, waiting.get(one.run_id, [])))
        for one in own
    ]


def removal_words(removal: Removal, waiting: Iterable[str]) -> str:
    """How far the server has come with a run's removal, and which nodes have still to free their part."""
    rows = sum(removal.rows.values())
    gone = f"{rows:,} row{'' if rows == 1 else 's'}"
    if removal.done is None:
        return f"being deleted; {gone} gone so far" if rows else "being deleted"
    names = ", ".join(waiting)
    later = f"; the copies on {names} go with the next word of {names}" if names else ""
    return f"deleted; {gone} and {size(removal.bytes or 0)} on this disk are free{later}"


def size(count: int) -> str:
    """Bytes in words."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def removal_shape(removal: Removal) -> dict[str, Any]:
    """A removal as JSON."""
    return {
        "run": removal.run_id,
        "name": removal.name,
        "by": removal.by,
        "node": removal.node.name if removal.node else None,
        "asked": removal.asked,
        "done": removal.done,
        "bytes": removal.bytes,
        "rows": removal.rows,
    }
