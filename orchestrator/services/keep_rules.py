"""Applying a retention rule: what the simulator showed goes, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db import transaction

from orchestrator.models import Checkpoint, Role, Run
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.selectors.retention_plan import retention_plan
from orchestrator.services.checkpoint_removals import delete_locked
from orchestrator.services.facts import run_locked, run_owned

if TYPE_CHECKING:
    from orchestrator.keep_rule import KeepRule
    from orchestrator.models import User
    from orchestrator.selectors.retention_plan import Plan


class PlanChanged(ValueError):
    """What would go is not what was looked at."""


@dataclass(frozen=True)
class Applied:
    """What a rule removed."""

    plan: Plan
    deleted: list[Checkpoint]

    @property
    def bytes(self) -> int:
        """What their files take up; they go bit by bit."""
        sizes = {one.id: one.bytes for one in self.plan.decision.going}
        return sum(sizes.get(one.pk, 0) for one in self.deleted)


def retention_apply(
    *,
    rule: KeepRule,
    user: User,
    role: str | None = None,
    run_id: str | None = None,
    expect: str = "",
) -> Applied:
    """Delete what the rule removes, of one run (its owner or an admin) or of all (admins).

    `expect` is the digest of the decision that was looked at. Raises PermissionDenied, PlanChanged when another
    set would go by now, ValueError for a run that is not there.
    """
    run = None
    if run_id is not None:
        with transaction.atomic():
            run = run_owned(run_id, user)
    elif (role or str(user.role)) != Role.ADMIN:
        raise PermissionDenied("Only admins apply a rule to all runs; apply it to a run of yours.")
    plan = retention_plan(rule, run=run)
    if expect and expect != plan.decision.digest:
        raise PlanChanged(
            f"Since you looked, what would go has changed: it is {len(plan.decision.going)} checkpoints now. "
            "Look again, then apply."
        )
    by_run: dict[str, set[str]] = {}
    for kept in plan.decision.going:
        by_run.setdefault(kept.run, set()).add(kept.id)
    deleted: list[Checkpoint] = []
    for pk, ids in by_run.items():
        deleted += _of_run(rule, pk, ids, user.get_username())
    return Applied(plan, deleted)


def _of_run(rule: KeepRule, run_id: str, ids: set[str], who: str) -> list[Checkpoint]:
    """Decide again for one run, now that nothing of it can change, and delete what goes both times."""
    with transaction.atomic():
        try:
            run: Run = run_locked(run_id)
        except ValueError:
            return []  # deleted meanwhile, with all of its checkpoints
        if is_being_deleted(run_id):
            return []
        again = retention_plan(rule, run=run)
        going = sorted({one.id for one in again.decision.going} & ids)
        locked = Checkpoint.objects.select_for_update(of=("self",)).select_related("run")
        found = list(locked.filter(pk__in=going).order_by("step"))
        for one in found:
            delete_locked(one, who=who, why=f"retention rule: {rule.words}")
    return found
