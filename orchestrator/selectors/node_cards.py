"""Machines as the nodes page shows them: what runs in their slots, how loaded they are, what they lack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings

from orchestrator.models import Run, State
from orchestrator.models.contact import state_now
from orchestrator.selectors.fitting import slots_needed
from orchestrator.selectors.nodes import BUSY, node_status, nodes_list
from trainer import registry

if TYPE_CHECKING:
    from orchestrator.models import Node

NEARLY_FULL = 90.0
SAID = {
    "ready": ("good", "check", "takes runs"),
    "drained": ("warning", "pause", "takes no new runs; those on it go on"),
    "closed": ("warning", "stopped", "its machine stops; it takes runs again when it joins again"),
    "gone": (
        "lost",
        "lost",
        "has not kept its promise to speak; its runs count as lost after a while",
    ),
    "invited": ("", "queued", "waits for its machine to join"),
}
"""Status -> level, icon, what it means."""


@dataclass(frozen=True)
class Meter:
    """One bar: how much of something is used."""

    name: str
    percent: float
    used: float
    whole: float
    unit: str
    """"bytes" or "percent"."""

    @property
    def full(self) -> bool:
        """Whether little is left."""
        return self.unit == "bytes" and self.percent >= NEARLY_FULL


@dataclass
class NodeCard:
    """One machine."""

    node: Node
    status: str
    level: str
    icon: str
    means: str
    runs: list[dict[str, Any]]
    free: int
    meters: list[Meter]
    gpus: list[dict[str, Any]]
    engines: dict[str, str]
    versions: dict[str, str]
    system: str
    others: list[str] = field(default_factory=list)
    """Methods whose file differs from this server's, or that only one of the two has."""

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return sum(one["slots"] for one in self.runs)

    @property
    def speaks(self) -> bool:
        """Whether what it reported is of now."""
        return self.status not in ("gone", "invited")


def node_cards() -> list[NodeCard]:
    """Every node that was not revoked, by name."""
    nodes = nodes_list()
    found = Run.objects.filter(node__in=nodes, process__in=BUSY).select_related("node")
    runs: dict[str, list[Run]] = {}
    for run in found.order_by("created"):
        runs.setdefault(run.node_id, []).append(run)
    return [_card(node, runs.get(node.pk, [])) for node in nodes]


def runs_waiting() -> int:
    """How many runs wait for a slot."""
    return Run.objects.filter(state=State.QUEUED).count()


def only_this_machine_joins() -> bool:
    """Whether the broker is a folder, which no other machine can reach."""
    return bool(settings.BROKER_URL.startswith("filesystem:"))


def _card(node: Node, runs: list[Run]) -> NodeCard:
    has = node.inventory if isinstance(node.inventory, dict) else {}
    status = node_status(node)
    level, icon, means = SAID[status]
    held = [_held(run, node) for run in runs]
    return NodeCard(
        node=node,
        status=status,
        level=level,
        icon=icon,
        means=means,
        runs=held,
        free=max(0, node.slots - sum(one["slots"] for one in held)),
        meters=_meters(has),
        gpus=[_gpu(gpu) for gpu in has.get("gpus") or [] if isinstance(gpu, dict)],
        engines=_texts(has.get("engines")),
        versions=_texts(has.get("versions")),
        system=str(has.get("system", "")),
        others=_others(has.get("methods")),
    )


def _held(run: Run, node: Node) -> dict[str, Any]:
    return {"run": run, "state": str(state_now(run)), "slots": slots_needed(run.spec, node)}


def _meters(has: dict[str, Any]) -> list[Meter]:
    cpus, load = _number(has.get("cpus")), _number(has.get("cpu_load"))
    memory, disk = _number(has.get("memory")), _number(has.get("disk"))
    found = []
    if cpus:
        found.append(Meter(f"CPU, {cpus:g} threads", min(load, 100.0), load, 100.0, "percent"))
    if memory:
        found.append(_bytes("Memory", _number(has.get("memory_used")), memory))
    if disk:
        found.append(_bytes("Disk", disk - _number(has.get("disk_free")), disk))
    return found


def _bytes(name: str, used: float, whole: float) -> Meter:
    return Meter(name, round(100 * min(used / whole, 1.0), 1), used, whole, "bytes")


def _gpu(gpu: dict[str, Any]) -> dict[str, Any]:
    load = gpu.get("utilisation")
    power = gpu.get("power")
    return {
        "index": gpu.get("index", 0),
        "name": str(gpu.get("name", "GPU")),
        "memory": _bytes("Memory", _number(gpu.get("used")), _number(gpu.get("memory")) or 1.0),
        "load": Meter("Load", float(load), float(load), 100.0, "percent")
        if isinstance(load, (int, float))
        else None,
        "power": power if isinstance(power, (int, float)) else None,
    }


def _others(theirs: Any) -> list[str]:
    if not isinstance(theirs, dict) or not theirs:
        return []
    ours = registry.hashes()
    return sorted(
        key for key in set(ours) | {str(key) for key in theirs} if ours.get(key) != theirs.get(key)
    )


def _texts(value: Any) -> dict[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, dict) else {}


def _number(value: Any) -> float:
    """What a node reported, when it is a number."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0
