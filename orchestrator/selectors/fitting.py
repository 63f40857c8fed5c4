"""Does a run fit a node? Each rule gives a sentence that says what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models.contact import node_alive
from orchestrator.selectors.inputs import data_sources
from orchestrator.selectors.members import machines_wanted, network_of
from orchestrator.selectors.reach import out_of_reach
from trainer import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from orchestrator.models import Node, Run

GIB = 2**30
OWN_ENGINES = frozenset({"auto", "native"})


def node_open(node: Node) -> bool:
    """Whether it takes runs at all."""
    return node_alive(node) and not node.drained and node.closed is None


def gpus_wanted(spec: dict[str, Any]) -> int | None:
    """GPUs on each machine; None takes one where there is any, and so does memory without a number."""
    resources = spec.get("resources", {})
    wanted = resources.get("gpus", "auto")
    if isinstance(wanted, int):
        return max(0, wanted)  # a stored spec may be older than the rule that it is no less
    return 1 if resources.get("min_vram_gb") else None


def processes_wanted(spec: dict[str, Any]) -> int:
    """Training processes on each machine: one per GPU, or the number that the spec asks for on a CPU."""
    asked = spec.get("resources", {}).get("processes", 0)
    return max(gpus_wanted(spec) or 1, asked if isinstance(asked, int) else 1)


def slots_needed(spec: dict[str, Any], node: Node) -> int:
    """Slots that a run takes: one per GPU where the node has GPUs, else one."""
    has_gpus = bool(node.inventory.get("gpus"))
    return max(1, gpus_wanted(spec) or 1) if has_gpus else 1


def obstacle(run: Run, node: Node) -> str:
    """Why the run can never start on this node as it is, or ""."""
    return obstacle_of_spec(run.spec, node) or obstacle_of_run(run, node)


def obstacle_of_spec(spec: dict[str, Any], node: Node) -> str:
    """What of the spec alone stands in the way: the same for every run with the same needs."""
    rules = (_processes, _resources, _labels, _engine, _methods, _address)
    return next((said for rule in rules if (said := _said(node, rule(spec, node)))), "")


def obstacle_of_run(run: Run, node: Node) -> str:
    """What of this run alone stands in the way: where it worked, what it met there, what it needs to read."""
    rules = (_excluded, _cordon, out_of_reach)
    return next((said for rule in rules if (said := _said(node, rule(run, node)))), "")


def needs_of(spec: dict[str, Any]) -> str:
    """What `obstacle_of_spec` looks at, as a key: runs with equal keys fit the same nodes."""
    engine = spec.get("rollout", {}).get("engine")
    return repr((spec.get("resources"), engine, sorted(methods_of(spec))))


def _said(node: Node, sentences: Iterator[str]) -> str:
    sentence = next(sentences, "")
    return f"{node.name} {sentence}" if sentence else ""


def _resources(spec: dict[str, Any], node: Node) -> Iterator[str]:
    wanted = spec.get("resources", {})
    cpus = wanted.get("cpus", 1) * max(1, wanted.get("processes", 0))
    vram = wanted.get("min_vram_gb", 0)
    have = node.inventory.get("gpus", [])
    large = [gpu for gpu in have if gpu.get("memory", 0) >= vram * GIB]
    least = gpus_wanted(spec) or 0
    if least > len(have):
        yield f"has {_gpus(len(have))}, {least} {_are(least)} needed"
    if least > len(large):
        yield f"has {_gpus(len(large))} with {vram:g} GiB or more, {least} {_are(least)} needed"
    if slots_needed(spec, node) > node.slots:
        yield f"has {node.slots} slots, {slots_needed(spec, node)} are needed"
    known_cpus = node.inventory.get("cpus", 0)
    if known_cpus and cpus > known_cpus:
        yield f"has {known_cpus} CPU threads, {cpus} are needed"


def _gpus(count: int) -> str:
    return f"{count or 'no'} GPU{'' if count < 2 else 's'}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _processes(spec: dict[str, Any], node: Node) -> Iterator[str]:
    """A node says how many training processes it can start for one run."""
    told, needed = node.inventory.get("processes"), processes_wanted(spec)
    able = told if isinstance(told, int) else 1
    if needed > able:
        yield (
            f"starts {able} training process{'es' if able > 1 else ''} for a run, "
            f"{needed} are needed (resources.{'gpus' if gpus_wanted(spec) else 'processes'})"
        )


def _labels(spec: dict[str, Any], node: Node) -> Iterator[str]:
    missing = set(spec.get("resources", {}).get("labels", [])) - set(node.labels)
    if missing:
        yield f"lacks the label {', '.join(sorted(missing))}"


def _engine(spec: dict[str, Any], node: Node) -> Iterator[str]:
    engine = spec.get("rollout", {}).get("engine", "auto")
    if engine not in OWN_ENGINES and engine not in node.inventory.get("engines", {}):
        yield f"lacks the rollout engine {engine}"


def _methods(spec: dict[str, Any], node: Node) -> Iterator[str]:
    theirs = node.inventory.get("methods", {})
    ours = registry.hashes()
    for key in sorted(methods_of(spec)):
        if key not in theirs:
            yield f"lacks the method {key}"
        elif key in ours and theirs[key] != ours[key]:
            yield f"has another version of the method {key}"


def _address(spec: dict[str, Any], node: Node) -> Iterator[str]:
    """A machine of several must be reached by the others."""
    if machines_wanted(spec) > 1 and not network_of(node):
        yield (
            "has no address for other machines: start it with ANNEAL_NODE_ADDRESS set to one that they reach"
        )


def _excluded(run: Run, node: Node) -> Iterator[str]:
    if node.name in run.excluded_nodes:
        yield "is ruled out for this run by a log rule"


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
    judge = (spec.get("evaluation") or {}).get("judge") or {}
    if "type" in judge:
        used.add(f"evaluators/{judge['type']}")
    used |= {f"diagnostics/{name}" for name in spec.get("diagnostics", [])}
    built_in = registry.family("data")
    for source in data_sources(spec):
        if source.get("source") in built_in:
            used.add(f"data/{source['source']}")
        if transform := source.get("transform"):
            used.add(f"data/{transform['type']}")
    return used
