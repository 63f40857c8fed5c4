"""Runs as people ask for them: lists, and the one shape that REST, sockets and pages share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from django.db.models import Count, Q

from orchestrator.models import Run, State
from orchestrator.models.contact import state_now
from orchestrator.selectors.members import machines_of
from orchestrator.selectors.stalls import stall_told
from trainer import registry

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet

ORDERS = frozenset({"created", "name", "state", "priority", "step", "started", "ended"})
PRIMARY_OF_NEED = {
    "rollouts": ("eval/reward", "reward"),
    "demonstrations": ("loss", "eval/loss"),
    "pairs": ("eval/pair_accuracy", "accuracy", "rewards/accuracies"),
    "labels": ("eval/loss", "loss"),
    "ratings": ("eval/loss", "loss"),
}
Archived = Literal["no", "only", "with"]
"""Whether a list leaves archived runs out, holds them alone, or among the others."""
KEPT = Count("checkpoints", filter=Q(checkpoints__deleted=None))


def runs_list(
    *,
    state: str | None = None,
    kind: str | None = None,
    tag: str | None = None,
    q: str | None = None,
    archived: Archived = "no",
    order: str = "-created",
    page: int = 1,
    per_page: int = 50,
) -> tuple[list[Run], int]:
    """One page of runs and how many there are in all. Raises ValueError for an unknown order or state."""
    field = order.removeprefix("-")
    if field not in ORDERS:
        raise ValueError(f"order: '{order}' is unknown; use {', '.join(sorted(ORDERS))}, or -name")
    found = Run.objects.all()
    if archived != "with":
        found = found.filter(archived__isnull=archived == "no")
    if state:
        found = found.filter(state__in=_states(state))
    if kind:
        found = found.filter(kind=kind)
    if tag:
        found = found.filter(tags__contains=[tag])
    if q:
        words = Q(name__icontains=q) | Q(id__startswith=q) | Q(tags__contains=[q])
        found = found.filter(words | Q(owner__username__iexact=q))
    count = found.count()
    start = (page - 1) * per_page
    rows = _shaped(found.order_by(order, "-created", "pk"))[start : start + per_page]
    return list(rows), count


def run_get(run_id: str) -> Run | None:
    """One run with what its shape needs."""
    return _shaped(Run.objects.filter(pk=run_id)).first()


def run_shape(run: Run) -> dict[str, Any]:
    """A run as JSON. The state is what its facts say now, even when no sweep has looked yet."""
    state = state_now(run)
    key = primary_key(run)
    return {
        "id": run.pk,
        "name": run.name,
        "kind": run.kind,
        "state": str(state),
        "reason": run.reason,
        "cause": run.cause,
        "phase": run.phase,
        "step": run.step,
        "total_steps": run.total_steps,
        "attempt": run.attempt,
        "node": run.node.name if run.node else None,
        "nodes": machines_of(run),
        "spec_hash": run.spec_hash,
        "created": _moment(run.created),
        "started": _moment(run.started),
        "ended": _moment(run.ended),
        "owner": run.owner.get_username(),
        "tags": list(run.tags),
        "notes": run.notes,
        "recipe": run.recipe,
        "priority": run.priority,
        "preemptible": run.preemptible,
        "place": run.place if state == State.QUEUED else None,
        "max_restarts": run.max_restarts,
        "restarts": run.restarts,
        "desired": str(run.desired),
        "desired_by": run.desired_by,
        "desired_at": _moment(run.desired_at),
        "stall": stall_told(run),
        "knobs": run.knobs,
        "policy": run.policy,
        "promotion": run.promotion,
        "overrides": run.overrides,
        "excluded_nodes": run.excluded_nodes,
        "archived": _moment(run.archived),
        "parent": run.parent_id,
        "parent_step": run.parent_step,
        "complete": run.complete,
        "waits_for": run.waits_for_id,
        "last_contact": _moment(run.last_contact),
        "latest": run.latest,
        "primary": {"key": key, "value": run.latest.get(key)},
        "eta_seconds": eta_seconds(run, state),
        "checkpoints": _checkpoints(run),
    }


def primary_key(run: Run) -> str:
    """The metric that tells whether this run learns: the first of its kind that it has logged."""
    if run.kind != "train":
        return "eval/reward"
    tag = run.spec.get("objective", {}).get("type", "")
    method = registry.family("objectives").get(tag)
    keys = PRIMARY_OF_NEED.get(getattr(method, "learns_from", ""), ("loss",))
    return next((key for key in keys if key in run.latest), keys[-1])


def eta_seconds(run: Run, state: str) -> float | None:
    """Seconds that the remaining steps take at the pace of the newest one; None while unknown."""
    pace = run.latest.get("time/step")
    if state != State.RUNNING or not run.total_steps or not isinstance(pace, (int, float)):
        return None
    return round(max(0, run.total_steps - run.step) * float(pace), 1)


def _checkpoints(run: Run) -> int:
    counted = getattr(run, "checkpoint_count", None)
    return run.checkpoints.filter(deleted=None).count() if counted is None else counted


def _shaped(found: QuerySet[Run]) -> QuerySet[Run]:
    return found.select_related("owner", "node").annotate(checkpoint_count=KEPT)


def _states(text: str) -> list[str]:
    """States of a filter: one, or several with commas between."""
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [part for part in wanted if part not in State.values]
    if unknown:
        raise ValueError(f"state: '{unknown[0]}' is unknown; use {', '.join(State.values)}")
    return wanted


def _moment(value: datetime | None) -> str | None:
    return value.isoformat() if value else None
