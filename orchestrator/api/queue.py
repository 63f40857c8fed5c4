"""The queue: which runs wait, in which order and why, and the shares that decide between people."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Router, Schema

from orchestrator.selectors import queue

router = Router(tags=["queue"])


class QueuedOut(Schema):
    """A run that waits."""

    place: int | None
    """1 is the first; null until the scheduler has seen it, within a second or so."""
    id: str
    name: str
    owner: str
    priority: int
    preemptible: bool
    needs: str
    labels: list[str]
    reason: str
    """Why it waits."""
    held_on: list[str]
    """Nodes on which room is held for it: later ones may only take it when they do not delay it."""
    has_turn: bool
    """Whether it stays before all others of its priority until it starts."""
    starts_by: datetime | None
    """When that room is ready, rounded up; null while nobody can tell."""
    created: datetime


class ShareOut(Schema):
    """What one person has used. The smaller share goes first among runs of one priority."""

    owner: str
    used_hours: float
    """Unit-hours, older ones counted less; a unit is a GPU, or a slot on a machine without GPUs."""
    held: int
    """Units that their runs hold now."""
    waiting: int
    share_hours: float
    """`used_hours`, and an hour for each unit held."""


class QueueOut(Schema):
    """The queue, first one first."""

    items: list[QueuedOut]
    count: int
    shares: list[ShareOut]
    half_life_hours: float
    """After so many hours, use counts half."""


@router.get("/queue", response=QueueOut)
def queue_list(request: HttpRequest) -> dict[str, Any]:
    """The runs that wait, each with its place and why, and everybody's fair share.

    Order: priority, then the owner's share, then age. A priority is changed by `PATCH /api/runs/ID`.
    """
    items = queue.queue_shapes(queue.queue_runs())
    return {
        "items": items,
        "count": len(items),
        "shares": queue.share_rows(),
        "half_life_hours": queue.half_life_hours(),
    }
