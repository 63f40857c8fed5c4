"""Does a run fit a node? Each rule gives a sentence that says what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models.contact import node_alive
from orchestrator.selectors.inputs import data_sources
from orchestrator.selectors.reach import out_of_reach
from trainer import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Node, Run

GIB = 2**30
OWN_ENGINES = frozenset({"auto", "native"})


@dataclass
class Place:
    """A node with what is free on it."""

    node: Node
    free: int

    @property
    def is_open(self) -> bool:
        """Whether it takes runs at all."""
        node = self.node
        return node_alive(node) and not node.drained and node.closed is None


def slots_needed(spec: dict[str, Any], node: Node) -> int:
    """Slots that a run takes: one per GPU where the node has GPUs, else one."""
    wanted = spec.get("resources", {}).get("gpus", "auto")
    has_gpus = bool(node.inventory.get("gpus"))
    return max(1, wanted) if has_gpus and isinstance(wanted, int) else 1


def obstacle(run: Run, node: Node) -> str:
    """Why the run can never start on this node as it is, or ""."""
    rules = (_excluded, _cordon, _resources, _labels, _engine, _methods, out_of_reach)
    for rule in rules:
        if sentence := next(iter(rule(run, node)), ""):
            return f"{node.name} {sentence}"
    return ""


def _excluded(run: Run, node: Node) -> Iterator[str]:
    if node.name in run.excluded_nodes:
        yield "is ruled out for this run by a log rule"


def _resources(run: Run, node: Node) -> Iterator[str]:
    wanted = run.spec.get("resources", {})
    gpus, cpus = wanted.get("gpus", "auto"), wanted.get("cpus", 1)
    vram = wanted.get("min_vram_gb", 0)
    have = node.inventory.get("gpus", [])
    large = [gpu for gpu in have if gpu.get("memory", 0) >= vram * GIB]
    least = gpus if isinstance(gpus, int) else (1 if vram else 0)
    if least > len(have):
        yield f"has {len(have)} GPUs, {least} are needed"
    if least > len(large):
        yield f"has {len(large)} GPUs with {vram:g} GiB or more, {least} are needed"
    if slots_needed(run.spec, node) > node.slots:
        yield f"has {node.slots} slots, {slots_needed(run.spec, node)} are needed"
    known_cpus = node.inventory.get("cpus", 0)
    if known_cpus and cpus > known_cpus:
        yield f"has {known_cpus} CPU threads, {cpus} are needed"


def _labels(run: Run, node: Node) -> Iterator[str]:
    missing = set(run.spec.get("resources", {}).get("labels", [])) - set(node.labels)
    if missing:
        yield f"lacks the label {', '.join(sorted(missing))}"


def _engine(run: Run, node: Node) -> Iterator[str]:
    engine = run.spec.get("rollout", {}).get("engine", "auto")
    if engine not in OWN_ENGINES and engine not in node.inventory.get("engines", {}):
        yield f"lacks the rollout engine {engine}"


def _methods(run: Run, node: Node) -> Iterator[str]:
    theirs = node.inventory.get("methods", {})
    ours = registry.hashes()
    for key in sorted(methods_of(run.spec)):
        if key not in theirs:
            yield f"lacks the method {key}"
        elif key in ours and theirs[key] != ours[key]:
            yield f"has another version of the method {key}"


def _cordon(run: Run, node: Node) -> Iterator[str]:
    if node.cordoned and run.node_id != node.pk:
        yield "is cordoned: only runs that worked on it last may return"


def methods_of(spec: dict[str, Any]) -> set[str]:
    """Every method that a spec uses, as `family/tag`."""
    families = {
        "objective": "objectives",
        "advantage": "advantages",
        "curriculum": "curricula",
        "guidance": "guidance",
        "optimizer": "optimizers",
        "adapter": "adapters",
        "schedule": "schedules",
    }
    used = {
        f"{family}/{spec[section]['type']}"
        for section, family in families.items()
        if isinstance(spec.get(section), dict) and "type" in spec[section]
    }
    used |= {f"rewards/{reward['type']}" for reward in spec.get("rewards", [])}
    used |= {f"diagnostics/{name}" for name in spec.get("diagnostics", [])}
    built_in = registry.family("data")
    for source in data_sources(spec):
        if source.get("source") in built_in:
            used.add(f"data/{source['source']}")
        if transform := source.get("transform"):
            used.add(f"data/{transform['type']}")
    return used
