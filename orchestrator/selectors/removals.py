"""Deleted runs and what was freed of them."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Removal


def removals_list(*, page: int = 1, per_page: int = 100) -> tuple[list[Removal], int]:
    """One page, newest first, and how many there are."""
    found = Removal.objects.select_related("node").order_by("-pk")
    start = (page - 1) * per_page
    return list(found[start : start + per_page]), found.count()


def removal_words(found: list[Removal]) -> str:
    """What was freed, and what nodes have still to free."""
    rows = sum(sum(one.rows.values()) for one in found)
    freed = size(sum(one.bytes or 0 for one in found))
    waiting = [one.node.name for one in found if one.node and one.done is None]
    later = f" Their copies go with the next word of {', '.join(waiting)}." if waiting else ""
    return f"{found[0].name} is deleted: {rows:,} rows and {freed} on this disk are free.{later}"


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
