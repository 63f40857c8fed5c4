"""The queue as people ask for it: who waits where and why, and who has used how much."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.db.models import F
from django.utils import timezone

from orchestrator.models import Attempt, Desired, Node, Process, Run, State, User
from orchestrator.planner.line import AHEAD, HALF_LIFE
from orchestrator.selectors.fair_share import unit_seconds
from orchestrator.selectors.members import machines_wanted, members_holding
from orchestrator.selectors.waiting import need_words

if TYPE_CHECKING:
    from collections.abc import Iterable

BUSY = (Process.DISPATCHED, Process.CLAIMED, Process.ALIVE)
FREE = (Process.NONE, Process.EXITED)
HOUR = 3600.0


def queue_runs() -> list[Run]:
    """The runs that wait, first one first; those that no plan has seen yet come last."""
    found = Run.objects.filter(state=State.QUEUED, process__in=FREE, desired=Desired.RUN)
    rows = found.select_related("owner", "waits_for")
    return list(rows.order_by(F("place").asc(nulls_last=True), "created", "pk"))


def queue_length() -> int:
    """How many wait."""
    found = Run.objects.filter(state=State.QUEUED, process__in=FREE, desired=Desired.RUN)
    return int(found.count())


def queue_shapes(runs: Iterable[Run]) -> list[dict[str, Any]]:
    """The runs of the queue as JSON."""
    names = dict(Node.objects.values_list("pk", "name"))
    return [_shape(run, names) for run in runs]


def _shape(run: Run, names: dict[str, str]) -> dict[str, Any]:
    machines = machines_wanted(run.spec)
    needs = need_words(run.spec)
    labels = list(run.spec.get("resources", {}).get("labels", []))
    return {
        "place": run.place,
        "id": run.pk,
        "name": run.name,
        "owner": run.owner.get_username(),
        "priority": run.priority,
        "preemptible": run.preemptible,
        "needs": f"{needs} on each of {machines} machines" if machines > 1 else needs,
        "labels": labels,
        "reason": run.reason,
        "held_on": sorted(names[pk] for pk in run.held if pk in names),
        "has_turn": run.has_turn,
        "starts_by": run.starts_by.isoformat() if run.starts_by else None,
        "created": run.created.isoformat(),
    }


def share_rows() -> list[dict[str, Any]]:
    """The fair share of everybody who waits, works or worked lately; who goes first comes first."""
    used = unit_seconds(timezone.now())
    held: Counter[int] = Counter()
    current = Attempt.objects.filter(run__process__in=BUSY, number=F("run__attempt"))
    for owner, slots in current.values_list("run__owner", "slots"):
        held[owner] += slots
    for owner, slots in members_holding().values_list("attempt__run__owner", "slots"):
        held[owner] += slots
    waiting = Counter(run.owner_id for run in queue_runs())
    people = User.objects.in_bulk(used.keys() | held.keys() | waiting.keys())
    rows = [
        {
            "owner": person.get_username(),
            "used_hours": round(used.get(pk, 0.0) / HOUR, 3),
            "held": held[pk],
            "waiting": waiting[pk],
            "share_hours": round((used.get(pk, 0.0) + AHEAD * held[pk]) / HOUR, 3),
        }
        for pk, person in people.items()
    ]
    return sorted(rows, key=lambda row: (row["share_hours"], row["owner"]))


def half_life_hours() -> float:
    """Hours after which use counts half."""
    return HALF_LIFE / HOUR
