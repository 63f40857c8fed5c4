"""Bad signals of the machine in the minutes before an end, from the readings of its heartbeats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.models import NodeReading
from orchestrator.selectors.signals import Signal

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.models import Node

RAM_FULL, DISK_FULL, VRAM_FULL = 95.0, 97.0, 98.0
"""Percent from which on a kind of memory is nearly full. GPUs are often filled on purpose: theirs counts only
where it rose to that."""
HOT = 90.0
"""Degrees Celsius from which on GPUs slow themselves down."""
BUSY, IDLE_SHARE = 95.0, 0.4
"""A GPU that says it is busy at less than this share of the power it took before computes nothing."""
READINGS_MOST = 500


def node_signals(node: Node | None, since: datetime, until: datetime) -> list[Signal]:
    """What the readings between two moments of the server's clock show, each sign where it first shows."""
    if node is None:
        return []
    fields = ("time", "memory", "gpu_memory", "temperature", "gpu", "power")
    mine = NodeReading.objects.filter(node=node, time__gte=since, time__lte=until)
    rows = list(mine.order_by("-time").values(*fields)[:READINGS_MOST])[::-1]
    found = [
        _full(rows, "memory", RAM_FULL, "ram-full", "The machine's RAM was nearly full"),
        _disk_full(node, since, until),
        _risen(rows, "gpu_memory", VRAM_FULL, "vram-full", "GPU memory was nearly full"),
        _full(rows, "temperature", HOT, "gpu-hot", "A GPU was hot", " °C"),
        _busy_at_idle_power(rows),
    ]
    return [signal for signal in found if signal is not None]


def _full(
    rows: list[dict[str, Any]], key: str, bound: float, code: str, title: str, unit: str = " %"
) -> Signal | None:
    for row in rows:
        if row[key] is not None and row[key] >= bound:
            text = f"{row[key]:.0f}{unit} by the node's heartbeat, {bound:.0f}{unit} is the bound."
            return _signal(row, code, title, text)
    return None


def _disk_full(node: Node, since: datetime, until: datetime) -> Signal | None:
    """The disk of a node that has been silent since: readings do not keep it, the newest heartbeat does."""
    whole, free = (node.inventory.get(name) for name in ("disk", "disk_free"))
    if node.last_seen is None or not since <= node.last_seen <= until:
        return None
    if not (isinstance(whole, (int, float)) and isinstance(free, (int, float)) and whole > 0):
        return None
    row = {"time": node.last_seen, "disk": 100.0 * (1 - free / whole)}
    return _full([row], "disk", DISK_FULL, "disk-full", "The machine's disk was nearly full")


def _risen(
    rows: list[dict[str, Any]], key: str, bound: float, code: str, title: str
) -> Signal | None:
    """As `_full`, but only where it was below before."""
    told = [row for row in rows if row[key] is not None]
    if told and told[0][key] >= bound:
        return None
    return _full(rows, key, bound, code, title)


def _busy_at_idle_power(rows: list[dict[str, Any]]) -> Signal | None:
    told = [row for row in rows if row["gpu"] is not None and row["power"] is not None]
    for place, row in enumerate(told):
        before = [one["power"] for one in told[:place] if one["gpu"] >= BUSY]
        if len(before) < 3 or row["gpu"] < BUSY:
            continue
        usual = float(np.median(before))
        if row["power"] < IDLE_SHARE * usual:
            text = (
                f"{row['gpu']:.0f} % busy at {row['power']:.0f} W, where {usual:.0f} W were usual: "
                "it waits for something and computes nothing."
            )
            return _signal(row, "gpu-spins", "The GPU was busy at idle power", text)
    return None


def _signal(row: dict[str, Any], code: str, title: str, text: str) -> Signal:
    return Signal(
        kind="node", code=code, time=row["time"].timestamp(), title=title, text=text, step=None
    )
