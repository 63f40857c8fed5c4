"""Readings: how loaded each node was, every few seconds of the last hour."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.models import NodeReading

if TYPE_CHECKING:
    from orchestrator.models import Node

EVERY = timedelta(seconds=9)
"""Readings are at least so far apart: every second heartbeat makes one."""
KEEP = timedelta(hours=1)


def reading_note(node: Node, inventory: dict[str, Any], now: datetime) -> bool:
    """Keep what a heartbeat tells of the load, unless the newest reading is fresh; drop what is old."""
    mine = NodeReading.objects.filter(node=node)
    if mine.filter(time__gt=now - EVERY).exists():
        return False
    NodeReading.objects.create(node=node, time=now, **figures_of(inventory))
    mine.filter(time__lt=now - KEEP).delete()
    return True


def figures_of(inventory: dict[str, Any]) -> dict[str, float | None]:
    """The figures of a reading by column; None for what the inventory does not tell, or tells wrongly."""
    gpus = [gpu for gpu in inventory.get("gpus") or [] if isinstance(gpu, dict)]
    loads, powers, heats = (
        _numbers(gpus, name) for name in ("utilisation", "power", "temperature")
    )
    used, whole = (sum(_numbers(gpus, name)) for name in ("used", "memory"))
    return {
        "cpu": _share(inventory.get("cpu_load"), 100.0),
        "memory": _share(inventory.get("memory_used"), inventory.get("memory")),
        "gpu": sum(loads) / len(loads) if loads else None,
        "gpu_low": min(loads, default=None),
        "gpu_high": max(loads, default=None),
        "gpu_memory": _share(used, whole) if gpus else None,
        "power": sum(powers) if powers else None,
        "temperature": max(heats, default=None),
    }


def _numbers(gpus: list[dict[str, Any]], name: str) -> list[float]:
    return [float(gpu[name]) for gpu in gpus if _is_number(gpu.get(name))]


def _share(part: Any, whole: Any) -> float | None:
    """Percent."""
    if not (_is_number(part) and _is_number(whole)) or whole <= 0:
        return None
    return min(100.0, max(0.0, 100.0 * float(part) / float(whole)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e18
