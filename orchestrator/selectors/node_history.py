"""The last hour of each node: per minute the least, the mean and the most, and the lines that show them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import Avg, Max, Min
from django.db.models.functions import TruncMinute
from django.utils import timezone

from orchestrator.models import NodeReading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from orchestrator.models import Node

MINUTES = 60
WIDTH, HEIGHT = 240.0, 40.0
"""The box of a small chart; the page stretches it."""
PERCENT = 100.0

COLUMNS = {
    "cpu": ("cpu", "cpu", "cpu"),
    "memory": ("memory", "memory", "memory"),
    "gpu": ("gpu_low", "gpu", "gpu_high"),
    "gpu_memory": ("gpu_memory", "gpu_memory", "gpu_memory"),
    "power": ("power", "power", "power"),
}
"""Quantity -> the columns of its least, mean and most."""
SHOWN = {
    "gpu": ("GPU", "%"),
    "gpu_memory": ("VRAM", "%"),
    "power": ("Power", "W"),
    "cpu": ("CPU", "%"),
    "memory": ("RAM", "%"),
}


@dataclass(frozen=True)
class Minute:
    """One minute of one quantity."""

    ago: int
    """Whole minutes before the current one."""
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class SmallChart:
    """One quantity of a node over the last hour, as SVG paths in a box of WIDTH x HEIGHT."""

    key: str
    name: str
    unit: str
    top: float
    """The value at the upper edge."""
    now: float | None
    """The mean of the newest minute, None when that is long ago."""
    peak: float
    band: str
    """From the least to the most of each minute: no spike is averaged away."""
    line: str
    """The mean; broken where minutes are missing."""
    minutes: int
    """How many minutes have readings."""


def node_charts(nodes: Iterable[Node]) -> dict[str, list[SmallChart]]:
    """The small charts of each node by its id; nothing for quantities that it never told."""
    now = timezone.now()
    found: dict[str, list[SmallChart]] = {}
    for node_id, rows in _rows(nodes, now).items():
        found[node_id] = [
            chart for key in SHOWN if (chart := _chart(key, list(_minutes(rows, key, now))))
        ]
    return found


def readings_list(node: Node) -> list[dict[str, Any]]:
    """Every reading that is kept, oldest first, as JSON."""
    names = ("cpu", "memory", "gpu", "gpu_low", "gpu_high", "gpu_memory", "power", "temperature")
    rows = NodeReading.objects.filter(node=node).order_by("time").values("time", *names)
    return [{**row, "time": row["time"].isoformat()} for row in rows]


def _rows(nodes: Iterable[Node], now: datetime) -> dict[str, list[dict[str, Any]]]:
    figures = {
        f"{key}_{word}": gather(column)
        for key, columns in COLUMNS.items()
        for word, gather, column in zip(
            ("least", "middle", "most"), (Min, Avg, Max), columns, strict=True
        )
    }
    since = now - timedelta(minutes=MINUTES)
    readings = NodeReading.objects.filter(node__in=list(nodes), time__gte=since)
    grouped = readings.annotate(minute=TruncMinute("time")).values("node_id", "minute")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in grouped.annotate(**figures).order_by("minute"):
        found.setdefault(row["node_id"], []).append(row)
    return found


def _minutes(rows: list[dict[str, Any]], key: str, now: datetime) -> Iterator[Minute]:
    for row in rows:
        low, mean, high = (row[f"{key}_{word}"] for word in ("least", "middle", "most"))
        ago = int((now.replace(second=0, microsecond=0) - row["minute"]).total_seconds() // 60)
        if mean is None or not math.isfinite(mean) or ago >= MINUTES:
            continue
        yield Minute(ago, mean if low is None else low, mean, mean if high is None else high)


def _chart(key: str, minutes: list[Minute]) -> SmallChart | None:
    if not minutes:
        return None
    name, unit = SHOWN[key]
    peak = max(minute.high for minute in minutes)
    top = PERCENT if unit == "%" else _round_up(peak)
    pieces = list(_unbroken(minutes))
    return SmallChart(
        key=key,
        name=name,
        unit=unit,
        top=top,
        now=minutes[-1].mean if minutes[-1].ago <= 1 else None,
        peak=peak,
        band=" ".join(_band(piece, top) for piece in pieces),
        line=" ".join(_line(piece, top) for piece in pieces),
        minutes=len(minutes),
    )


def _unbroken(minutes: list[Minute]) -> Iterator[list[Minute]]:
    """Stretches without a missing minute: a node that was silent leaves a gap."""
    piece: list[Minute] = []
    for minute in minutes:
        if piece and piece[-1].ago - minute.ago > 1:
            yield piece
            piece = []
        piece.append(minute)
    if piece:
        yield piece


def _band(piece: list[Minute], top: float) -> str:
    upper = [_point(x, minute.high, top) for x, minute in _places(piece)]
    lower = [_point(x, minute.low, top) for x, minute in reversed(_places(piece))]
    return f"M{'L'.join([*upper, *lower])}Z"


def _line(piece: list[Minute], top: float) -> str:
    return f"M{'L'.join(_point(x, minute.mean, top) for x, minute in _places(piece))}"


def _places(piece: list[Minute]) -> list[tuple[float, Minute]]:
    """Where each minute stands: in the middle of its own. One alone fills it, or it would not be seen."""
    each = WIDTH / MINUTES
    if len(piece) == 1:
        end = WIDTH - each * piece[0].ago
        return [(end - each, piece[0]), (end, piece[0])]
    return [(WIDTH - each * (minute.ago + 0.5), minute) for minute in piece]


def _point(x: float, value: float, top: float) -> str:
    y = HEIGHT - 1 - (HEIGHT - 2) * min(max(value, 0.0), top) / top
    return f"{x:.1f},{y:.1f}"


def _round_up(peak: float) -> float:
    """A round value at or above the peak, for the upper edge of a chart of watts."""
    if peak <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(peak))
    return next(step * size for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * size >= peak)
