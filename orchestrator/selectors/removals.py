"""Deleted runs and what was freed of them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Removal


def removals_list(*, page: int = 1, per_page: int = 100) -> tuple[list[Removal], int]:
    """One page, newest first, and how many there are."""
    found = Removal.objects.select_related("node").order_by("-pk")
    start = (page - 1) * per_page
    return list(found[start : start + per_page]), found.count()


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
