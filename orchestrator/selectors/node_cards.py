"""Machines as the nodes page shows them: what runs in their slots, how loaded they are, what they lack."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Count, F

from orchestrator.models import Checkpoint, Run, State
from orchestrator.models.contact import state_now
from orchestrator.selectors.fitting import slots_needed
from orchestrator.selectors.members import BUSY, machines_of, members_by_node
from orchestrator.selectors.node_history import node_charts
from orchestrator.selectors.nodes import node_status, nodes_list
from trainer import registry

if TYPE_CHECKING:
    from orchestrator.models import Node
    from orchestrator.selectors.node_history import SmallChart

NEARLY_FULL = 90.0
SAID = {
    "ready": ("good", "check", "takes runs"),
    "draining": (
        "warning",
        "pause",
        "takes no more runs, and is empty when those on it have ended",
    ),
    "drained": ("warning", "pause", "is empty and takes no runs: its machine may go down"),
    "cordoned": ("warning", "pause", "takes no new runs; those that worked on it may return"),
    "closed": ("warning", "stopped", "its machine stops; it takes runs again when it joins again"),
    "gone": (
        "lost",
        "lost",
        "has not kept its promise to speak; its runs count as lost after a while",
    ),
    "revoked": ("bad", "stopped", "may not speak any more: its token was taken back"),
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
    """"bytes", "percent" or "watts"."""

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
    charts: list[SmallChart]
    gpu_problem: str = ""
    """What the driver said instead of telling of GPUs."""
    only_here: int = 0
    """Checkpoints whose files lie on its disk alone."""
    others: list[str] = field(default_factory=list)
    """Methods whose file differs from this server's, or that only one of the two has."""

    @property
    def busy(self) -> int:
        """Slots that are taken."""
        return sum(one["slots"] for one in self.runs)

    @property
    def speaks(self) -> bool:
        """Whether what it reported is of now."""
        return self.status not in ("gone", "invited", "revoked")


def node_cards() -> list[NodeCard]:
    """Every node that was not removed, by name."""
    nodes = nodes_list()
    charts = node_charts(nodes)
    only_here = _only_here(nodes)
    found = Run.objects.filter(node__in=nodes, process__in=BUSY).select_related("node")
    runs: dict[str, list[Run]] = {}
    for run in found.order_by("created"):
        runs.setdefault(run.node_id, []).append(run)
    for node_id, further in members_by_node(nodes).items():
        runs.setdefault(node_id, []).extend(further)
    return [
        _card(node, runs.get(node.pk, []), charts.get(node.pk, []), only_here[node.pk])
        for node in nodes
    ]


def runs_waiting() -> int:
    """How many runs wait for a slot."""
    return Run.objects.filter(state=State.QUEUED).count()


def only_this_machine_joins() -> bool:
    """Whether the broker is a folder, which no other machine can reach."""
    return bool(settings.BROKER_URL.startswith("filesystem:"))


def _only_here(nodes: list[Node]) -> Counter[str]:
    """How many checkpoints lie on each node's own disk and nowhere else."""
    # What the server shares the disk of is here already, unless all is to go into a store.
    far = [node for node in nodes if not node.local or settings.ANNEAL_ARTIFACTS_URL]
    here = Checkpoint.objects.filter(
        deleted=None, run__attempts__node__in=far, run__attempts__number=F("attempt")
    )
    found = here.exclude(stored=F("sha256")).values_list("run__attempts__node_id")
    return Counter(dict(found.annotate(Count("pk", distinct=True))))


def _card(node: Node, runs: list[Run], charts: list[SmallChart], only_here: int) -> NodeCard:
    has = node.inventory if isinstance(node.inventory, dict) else {}
    status = node_status(node, busy=bool(runs))
    level, icon, means = SAID[status]
    held = [_held(run, node, has.get("gpus_of")) for run in runs]
    return NodeCard(
        node=node,
        status=status,
        level=level,
        icon=icon,
        means=means,
        runs=held,
        free=max(0, node.slots - sum(one["slots"] for one in held)),
        meters=_meters(has),
        gpus=[_gpu(gpu, held) for gpu in has.get("gpus") or [] if isinstance(gpu, dict)],
        engines=_texts(has.get("engines")),
        versions=_versions(has),
        system=str(has.get("system", "")),
        charts=charts,
        gpu_problem=str(has.get("gpu_problem") or ""),
        only_here=only_here,
        others=_others(has.get("methods")),
    )


def _held(run: Run, node: Node, given: Any) -> dict[str, Any]:
    gpus = given.get(run.pk) if isinstance(given, dict) else None
    return {
        "run": run,
        "state": str(state_now(run)),
        "machines": machines if len(machines := machines_of(run)) > 1 else [],
        "slots": slots_needed(run.spec, node),
        "gpus": [index for index in gpus if isinstance(index, int)]
        if isinstance(gpus, list)
        else [],
    }


def _versions(has: dict[str, Any]) -> dict[str, str]:
    """What is installed, the driver first."""
    driver = {"NVIDIA driver": has.get("driver"), "CUDA of the driver": has.get("cuda")}
    return {name: str(word) for name, word in driver.items() if word} | _texts(has.get("versions"))


def _meters(has: dict[str, Any]) -> list[Meter]:
    cpus, load = _number(has.get("cpus")), _number(has.get("cpu_load"))
    memory, disk = _number(has.get("memory")), _number(has.get("disk"))
    found = []
    if cpus:
        found.append(Meter(f"CPU, {cpus:g} threads", min(load, 100.0), load, 100.0, "percent"))
    if memory:
        found.append(_bytes("RAM", _number(has.get("memory_used")), memory))
    if disk:
        found.append(_bytes("Disk", disk - _number(has.get("disk_free")), disk))
    return found


def _bytes(name: str, used: float, whole: float) -> Meter:
    return Meter(name, round(100 * min(used / whole, 1.0), 1), used, whole, "bytes")


def _gpu(gpu: dict[str, Any], held: list[dict[str, Any]]) -> dict[str, Any]:
    index = gpu.get("index", 0)
    return {
        "index": index,
        "name": str(gpu.get("name", "GPU")),
        "memory": _bytes("Memory", _number(gpu.get("used")), _number(gpu.get("memory")) or 1.0),
        "load": _of_hundred("Load", gpu.get("utilisation")),
        "power": _power(gpu),
        "temperature": gpu["temperature"] if _is_number(gpu.get("temperature")) else None,
        "runs": [one["run"] for one in held if index in one["gpus"]],
    }


def _of_hundred(name: str, value: Any) -> Meter | None:
    load = _number(value)
    return Meter(name, load, load, 100.0, "percent") if _is_number(value) else None


def _power(gpu: dict[str, Any]) -> Meter | None:
    """Watts, of the most that the card may draw where it tells that."""
    power, limit = gpu.get("power"), gpu.get("power_limit")
    if not _is_number(power):
        return None
    used, whole = _number(power), max(0.0, _number(limit))
    share = round(100 * min(used / whole, 1.0), 1) if whole else 0.0
    return Meter("Power", share, used, whole, "watts")


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
    return float(value) if _is_number(value) else 0.0


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
