"""Comparisons: make, change, stop, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from orchestrator.models import Answer, Arm, Comparison, Item, Role
from orchestrator.services.comparison_orders import name_checked, order_checked
from orchestrator.services.comparison_readings import comparison_read
from orchestrator.services.comparison_runs import comparison_launch, runs_live
from orchestrator.services.event_fields import text_storable
from orchestrator.services.judges import judges_checked, judges_first
from orchestrator.services.promotions import rule_checked
from orchestrator.services.runs import run_stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import User
    from orchestrator.services.comparison_models import Candidate
    from orchestrator.services.comparison_orders import Order

NOTE_MOST = 20_000
BATCH = 1000


def comparison_create(
    *,
    owner: User,
    checkpoints: Sequence[str],
    prompts: Sequence[dict[str, Any]],
    scorers: Sequence[dict[str, Any]],
    sampling: dict[str, Any] | None = None,
    seed: int = 0,
    name: str = "",
    promotion: dict[str, Any] | None = None,
    judges: Sequence[dict[str, Any]] = (),
    comparison_id: str | None = None,
) -> Comparison:
    """Make a comparison and launch what is missing of its answers.

    Raises SpecError that names the fields of the order: `checkpoints.1`, `prompts.0.source`, `judges.0.url`, …
    """
    order = order_checked(
        checkpoints=checkpoints,
        prompts=prompts,
        sampling=sampling or {},
        scorers=scorers,
        seed=seed,
        name=name,
    )
    rule = rule_checked(promotion or {}, order.scorers)
    asked = judges_checked(judges)
    with transaction.atomic():
        comparison = Comparison.objects.create(
            **({"pk": comparison_id} if comparison_id else {}),
            name=order.name,
            owner=owner,
            note="\n".join(order.told),
            prompts=order.prompts,
            sampling=order.sampling,
            scorers=order.scorers,
            seed=order.seed,
            promotion=rule,
        )
        _items_store(comparison, order)
        Arm.objects.bulk_create(
            [_arm(comparison, place, model) for place, model in enumerate(order.models)]
        )
        comparison.judges = judges_first(comparison, asked)
        comparison.save(update_fields=["judges"])
        comparison_launch(comparison_id=comparison.pk, user=owner)
    return comparison


def comparison_patch(
    *, comparison_id: str, user: User, role: str | None = None, changes: dict[str, Any]
) -> Comparison:
    """Change `name` or `note`. Raises PermissionDenied, or ValueError that names the field."""
    with transaction.atomic():
        comparison = _mine(comparison_id, user, role)
        if "name" in changes:
            comparison.name = name_checked(changes["name"])
            if not comparison.name:
                raise ValueError("name: a comparison needs a name")
        if "note" in changes:
            comparison.note = text_storable(changes["note"]).strip()
            if len(comparison.note) > NOTE_MOST:
                raise ValueError(f"note: longer than {NOTE_MOST:,} characters")
        comparison.save(update_fields=["name", "note"])
    return comparison


def comparison_stop(*, comparison_id: str, user: User, role: str | None = None) -> Comparison:
    """End it: its runs are stopped, and what is there stays. Raises ValueError when nothing is at work."""
    with transaction.atomic():
        comparison = _mine(comparison_id, user, role)
        live = runs_live(comparison)
        if comparison.stopped is not None or not live:
            raise ValueError("Nothing works on this comparison, so that there is nothing to stop.")
        for run in live:
            run_stop(run_id=run.pk, user=user, message="its comparison was stopped")
        comparison.stopped = timezone.now()
        comparison.save(update_fields=["stopped"])
    return comparison


def comparison_resume(*, comparison_id: str, user: User, role: str | None = None) -> Comparison:
    """Launch again what is missing. Raises PermissionDenied, SpecError or ValueError."""
    with transaction.atomic():
        comparison = _mine(comparison_id, user, role)
        comparison_launch(comparison_id=comparison_id, user=comparison.owner)
    return comparison


def comparison_read_on(*, comparison_id: str, user: User, role: str | None = None) -> Comparison:
    """Let its models read each other's answers. Raises PermissionDenied, or ValueError that says why not."""
    with transaction.atomic():
        comparison = _mine(comparison_id, user, role)
        comparison_read(comparison_id=comparison_id, user=comparison.owner)
    return comparison


def comparison_delete(*, comparison_id: str, user: User, role: str | None = None) -> None:
    """Delete it with its votes; answers stay for others to use, but for those that came with its file."""
    with transaction.atomic():
        comparison = _mine(comparison_id, user, role)
        for run in runs_live(comparison):
            run_stop(run_id=run.pk, user=user, message="its comparison was deleted")
        digests = list(comparison.arms.values_list("digest", flat=True))
        imported = comparison.imported
        comparison.delete()
        if imported:
            kept = set(Arm.objects.filter(digest__in=digests).values_list("digest", flat=True))
            Answer.objects.filter(model__in=set(digests) - kept).delete()


def may_change(comparison: Comparison, user: User, role: str | None = None) -> bool:
    """Whether this person may rename, stop or delete: an admin, or its owner while an operator."""
    role = role or str(user.role)
    return role == Role.ADMIN or (comparison.owner_id == user.pk and role == Role.OPERATOR)


def _mine(comparison_id: str, user: User, role: str | None) -> Comparison:
    comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
    if not may_change(comparison, user, role):
        raise PermissionDenied("Only its owner or an admin may change a comparison.")
    return comparison


def _items_store(comparison: Comparison, order: Order) -> None:
    rows = [
        Item(
            comparison=comparison,
            number=number,
            digest=one.digest,
            part=one.part,
            prompt=one.prompt,
            row=one.row,
        )
        for number, one in enumerate(order.rows, start=1)
    ]
    Item.objects.bulk_create(rows, batch_size=BATCH)


def _arm(comparison: Comparison, place: int, model: Candidate) -> Arm:
    return Arm(
        comparison=comparison,
        position=place,
        name=model.name,
        model=model.model,
        checkpoint=model.checkpoint,
        digest=model.digest,
        train_seed=model.train_seed,
        recipe=model.recipe,
        facts=model.facts,
    )
