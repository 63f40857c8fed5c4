"""Why a run waits, in one sentence: what it needs, where, behind whom, and until when at the latest."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.planner.plan import Why
from orchestrator.selectors.fitting import gpus_wanted
from orchestrator.selectors.members import machines_wanted

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from orchestrator.models import Node, Run
    from orchestrator.planner.facts import Demand
    from orchestrator.planner.plan import Wait
    from orchestrator.selectors.situation import Situation

GRAINS = (
    (2 * 3600.0, timedelta(minutes=5)),
    (12 * 3600.0, timedelta(hours=1)),
    (float("inf"), timedelta(hours=6)),
)
"""Moments less far than so many seconds are rounded up to this: each step of another run moves them a little."""
NAMES_MOST = 6
"""Nodes that a sentence names one by one."""


def wait_sentence(wait: Wait, situation: Situation, by: datetime | None, now: datetime) -> str:
    """The sentence for one waiting run; "" where something else has said it already."""
    run = situation.runs[wait.run]
    if wait.why == Why.NOT_READY:
        return ""
    if wait.why in (Why.NO_MACHINE, Why.TOO_FEW):
        return ""
    if wait.why == Why.GIVEN_WAY:
        at = _names(situation, wait.held)
        return f"Next on {at}: a run of lower priority saves a checkpoint there and makes way."
    if wait.why == Why.HELD:
        return _held_for_another(wait, situation)
    where = wait.held or sorted(_fits(situation, wait.run))
    kept = ", which is kept free for it" if wait.held and needs_several(run) else ""
    until = f"; expected by {moment_words(by, now)}" if by else ""
    machines = [one for one in situation.facts.machines if one.id in where]
    need = need_words(run.spec, on_gpus=all(one.gpus for one in machines))
    count = machines_wanted(run.spec)
    each = f"{count} machines at once, of " if count > 1 and len(where) != count else ""
    each = f"each of {each}" if count > 1 else ""
    return f"Waits for {need} on {each}{_names(situation, where)}{kept}{until}."


def too_few_sentence(demand: Demand, situation: Situation) -> str:
    """Why a run that needs several machines at once finds too few of them."""
    fitting = len(demand.fits)
    only = f"only {_names(situation, demand.fits)} fits" if fitting == 1 else f"only {fitting} fit"
    others = situation.obstacles.get(demand.run, [])
    more = f" ({'; '.join(_by_what(others))})" if others else ""
    return f"Needs {demand.machines} machines at the same time that reach each other, and {only}{more}."


def none_fits_sentence(obstacles: Iterable[str]) -> str:
    """What is missing on each of the open nodes; those that lack the same are named together."""
    return f"No node fits: {'; '.join(_by_what(obstacles))}."


def _by_what(obstacles: Iterable[str]) -> list[str]:
    by_what: dict[str, list[str]] = {}
    for said in sorted(obstacles):
        name, _, what = said.partition(" ")
        by_what.setdefault(what, []).append(name)
    return [
        f"{names[0]} {what}" if len(names) == 1 else f"each of {_listed(names)} {what}"
        for what, names in by_what.items()
    ]


def no_node_sentence(nodes: list[Node]) -> str:
    """Why no node takes runs; "" when the machine stops, and has said so."""
    joined = [node for node in nodes if node.joined and not node.revoked]
    if not joined:
        return "Waits for a node: none has joined yet."
    if all(node.closed for node in joined):
        return ""
    if any(node.drained for node in joined):
        return "Waits for a node: the ones that are connected are drained."
    return "Waits for a node: none is connected."


def need_words(spec: dict[str, Any], *, on_gpus: bool = False) -> str:
    """What a run needs of one machine: "a free slot", "2 free GPUs with 40 GiB".

    `on_gpus` says that the machines in question have GPUs, of which `auto` takes one.
    """
    gpus, memory = gpus_wanted(spec), spec.get("resources", {}).get("min_vram_gb", 0)
    if gpus is None and on_gpus:
        gpus = 1
    if not gpus:
        return "a free slot"
    noun = "a free GPU" if gpus == 1 else f"{gpus} free GPUs"
    return f"{noun} with {memory:g} GiB" if memory else noun


def needs_several(run: Run) -> bool:
    """Whether several units must be free at once, so that room is kept free for it."""
    return (gpus_wanted(run.spec) or 1) * machines_wanted(run.spec) > 1


def starts_by(wait: Wait, now: datetime, before: datetime | None) -> datetime | None:
    """When the room that is held for a run is ready at the latest, rounded up.

    `before`, the moment that was told last, stays while it is still true and not much too late.
    """
    if wait.starts_in is None or not wait.held:
        return None
    moment = now + timedelta(seconds=wait.starts_in)
    grain = next(grain for far, grain in GRAINS if wait.starts_in < far)
    if before is not None and moment <= before <= moment + 2 * grain:
        return before
    past = (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) % grain
    return moment - past + (grain if past else timedelta())


def moment_words(moment: datetime, now: datetime) -> str:
    """A moment in UTC, with its day when it is not today's."""
    return f"{moment:%H:%M} UTC" if moment.date() == now.date() else f"{moment:%a %d %b %H:%M} UTC"


def _held_for_another(wait: Wait, situation: Situation) -> str:
    first, name = situation.runs[wait.behind], situation.nodes[wait.at].name
    advice = (
        " A run that sets budget.max_minutes may pass when it ends before that."
        if first.starts_by
        else ""
    )
    return f"Waits behind {first}: what is free on {name} is kept for it.{advice}"


def _fits(situation: Situation, run_id: str) -> frozenset[str]:
    return next(one.fits for one in situation.facts.demands if one.run == run_id)


def _listed(names: list[str]) -> str:
    if len(names) > NAMES_MOST:
        return f"{', '.join(names[: NAMES_MOST - 1])} and {len(names) - NAMES_MOST + 1} others"
    return ", ".join(names)


def _names(situation: Situation, ids: Iterable[str]) -> str:
    return _listed(sorted(situation.nodes[pk].name for pk in ids))
