"""What the plan of a run rests on: what its trainer said at the start, its machine, and earlier runs like it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from orchestrator.models import Attempt, Event, Run, State
from orchestrator.selectors.plan_estimate import (
    Estimate,
    Speed,
    arithmetic,
    from_earlier,
    work_of,
)
from orchestrator.selectors.plan_lines import lines_read
from orchestrator.selectors.plan_path import phase_times
from orchestrator.selectors.run_words import objective_of, spec_of
from trainer.spec import SpecError, spec_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from orchestrator.models import Node
    from trainer.spec import RunSpec

LOOKED_AT = 100
"""Finished runs that are looked at, the newest first."""
EARLIER_MOST = 5
"""Earlier runs that an estimate is taken from."""


@dataclass(frozen=True)
class Start:
    """What a trainer said when it had loaded."""

    attempt: int
    data: Mapping[str, Any]

    @property
    def gpu(self) -> bool:
        """Whether it trains on a GPU."""
        return str(self.data.get("device", "")).startswith("cuda")

    @property
    def engine(self) -> str:
        """What samples."""
        return str(self.data.get("rollout_engine", "native"))

    @property
    def speed(self) -> Speed | None:
        """What it measured of its machine; None from a trainer that measured nothing."""
        found = self.data.get("speed")
        if not isinstance(found, dict):
            return None
        numbers = [found.get(name) for name in ("flops", "weights", "decode_s")]
        flops, weights, decode = (one if isinstance(one, int | float) else None for one in numbers)
        several = self.data.get("processes")
        each = several if isinstance(several, int) and several > 0 else 1
        if not (flops and weights):
            return None
        return Speed(each * flops, weights, decode, self.data.get("shared_prefix") is True)


def starts_of(runs: Iterable[Run]) -> dict[str, Start]:
    """The newest start of each run, by its id."""
    told = Event.objects.filter(run__in=runs, source="trainer", type="status", data__phase="load")
    rows = told.filter(data__data__has_key="parameters").order_by("pk")
    return {
        run: Start(attempt, data["data"])
        for run, attempt, data in rows.values_list("run_id", "attempt", "data")
    }


def likeness(start: Start, node: Node | None, gpus: list[int]) -> tuple[Any, ...]:
    """What two starts must have in common for the one to tell the other's times."""
    names = ("parameters", "dtype", "threads", "processes", "sharding", "rollout_engine")
    inventory = node.inventory if node else {}
    if start.gpu:
        cards = {gpu.get("index"): gpu.get("name") for gpu in inventory.get("gpus") or []}
        machine = tuple(str(cards.get(index, "")) for index in gpus)
    else:
        machine = (str(inventory.get("cpus", "")),)
    return (start.gpu, machine, *(start.data.get(name) for name in names))


def spec_read(raw: Any) -> RunSpec | None:
    """A stored spec; None where it no longer fits this version."""
    try:
        return spec_parse(raw)
    except SpecError:
        return None


def estimates_of(run: Run, start: Start | None) -> dict[str, Estimate]:
    """By phase. Nothing that was measured in this run itself goes into it, so it stays what it was."""
    if start is None:
        return {}
    return _estimates(run.pk, start.attempt)


@lru_cache(maxsize=256)
def _estimates(run_id: str, attempt: int) -> dict[str, Estimate]:
    """They rest on what was known when the attempt began, so they are worked out once."""
    run = Run.objects.get(pk=run_id)
    start = starts_of([run])[run_id]
    spec = spec_read(spec_of(run))
    if spec is None:
        return {}
    found = arithmetic(spec, start.speed) if start.speed else {}
    earlier = [(work_of(one), seconds) for one, seconds in _earlier(run, start)]
    return found | from_earlier(work_of(spec), earlier)


def _earlier(run: Run, start: Start) -> list[tuple[RunSpec, dict[str, float]]]:
    """Spec and seconds by phase of finished runs like this one, the newest first."""
    before = run.started or timezone.now()
    runs = Run.objects.filter(kind=run.kind, state=State.FINISHED, ended__lt=before)
    runs = runs.exclude(pk=run.pk).only("id", "spec", "effective_spec").order_by("-ended")
    candidates = list(runs[:LOOKED_AT])
    starts = starts_of(candidates)
    machines = _machines([run, *candidates])
    wanted = likeness(start, *machines.get((run.pk, start.attempt), (None, [])))
    found: list[tuple[RunSpec, dict[str, float]]] = []
    for one in candidates:
        told = starts.get(one.pk)
        if (
            told is None
            or likeness(told, *machines.get((one.pk, told.attempt), (None, []))) != wanted
        ):
            continue
        other = spec_read(spec_of(one))
        if other is None or objective_of(spec_of(one)) != objective_of(spec_of(run)):
            continue
        seconds = {time.phase: time.p50 for time in phase_times(lines_read(one))}
        if seconds:
            found.append((other, seconds))
        if len(found) == EARLIER_MOST:
            break
    return found


def _machines(runs: Iterable[Run]) -> dict[tuple[str, int], tuple[Node | None, list[int]]]:
    attempts = Attempt.objects.filter(run__in=runs).select_related("node")
    return {(one.run_id, one.number): (one.node, one.gpus) for one in attempts}
