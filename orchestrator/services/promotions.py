"""Promotions: check a rule, and carry it out once its comparison lacks nothing any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Checkpoint, Comparison, Run, Stage
from orchestrator.selectors.comparison_evidence import comparison_evidence
from orchestrator.selectors.comparisons import (
    arms_of,
    comparison_get,
    comparison_progress,
    scorer_label,
)
from orchestrator.selectors.promotion import promotion_decided
from orchestrator.selectors.reach import is_stored
from orchestrator.services.facts import event_add
from orchestrator.services.hints import hint
from orchestrator.services.registry import change_note
from trainer.problems import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

STAGE = str(Stage.APPROVED)
WHO = "promotion rule"
CODE = "promotion"

log = logging.getLogger(__name__)


def rule_checked(rule: dict[str, Any], scorers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rule as it is stored, {} for none. Raises SpecError that names the field."""
    if not rule:
        return {}
    labels = [scorer_label(knobs) for knobs in scorers]
    problems = [
        Problem(
            path=f"promotion.{field}",
            message=f"there is no scorer '{rule[field][:60]}'; use {', '.join(labels)}",
        )
        for field in ("better_on", "not_worse_on")
        if rule.get(field) and rule[field] not in labels
    ]
    if problems:
        raise SpecError(problems)
    return {
        "better_on": rule["better_on"],
        "not_worse_on": rule.get("not_worse_on", ""),
        "margin": float(rule.get("margin", 0.0)),
    }


def promotions_settle() -> list[str]:
    """Decide all rules whose comparisons lack nothing; the ids of those comparisons."""
    waiting = Comparison.objects.filter(promotion__has_key="better_on").exclude(
        promotion__has_key="decided"
    )
    settled = []
    for pk in waiting.values_list("pk", flat=True):
        try:
            if promotion_settle(comparison_id=pk):
                settled.append(pk)
        except ValueError:
            # One that cannot be decided must not keep the others waiting.
            log.exception("the promotion of comparison %s could not be decided", pk)
    return settled


def promotion_settle(*, comparison_id: str) -> bool:
    """Decide one rule, once. False while answers are missing, or where it is decided already."""
    comparison = comparison_get(comparison_id)
    if comparison is None or not comparison_progress(comparison).settled:
        return False
    rule, baseline = comparison.promotion, arms_of(comparison)[0].name
    labels = [label for label in (rule["better_on"], rule["not_worse_on"]) if label]
    evidence = {
        label: comparison_evidence(comparison, scorer=label, baseline=baseline) for label in labels
    }
    decided = promotion_decided(rule, evidence)
    with transaction.atomic():
        row = Comparison.objects.select_for_update().get(pk=comparison_id)
        if "decided" in row.promotion:
            return False
        row.promotion |= {"decided": decided, "decided_at": timezone.now().isoformat()}
        row.save(update_fields=["promotion"])
        checkpoints = {arm.name: arm.checkpoint for arm in arms_of(comparison)}
        for one in decided:
            checkpoint = checkpoints.get(one["candidate"])
            if one["approve"] and checkpoint is not None and _is_kept(checkpoint):
                _approve(checkpoint, comparison, one["reason"])
        _refused_tell(comparison_id, decided)
    return True


def _refused_tell(comparison_id: str, decided: Sequence[dict[str, Any]]) -> None:
    """Say at the run whose rule this was why its checkpoint is not approved."""
    refused = [one["reason"] for one in decided if not one["approve"]]
    for run in Run.objects.filter(promotion__begun__comparison=comparison_id) if refused else ():
        message = f"Its checkpoint is not approved. {refused[0]}"
        event_add(run, "alert", level="info", code=CODE, message=message)


def _is_kept(checkpoint: Checkpoint) -> bool:
    """Whether there is anything left to approve."""
    return checkpoint.deleted is None or is_stored(checkpoint)


def _approve(checkpoint: Checkpoint, comparison: Comparison, reason: str) -> None:
    """Give the checkpoint its stage, written down as every change of it is, and say so at its run."""
    if checkpoint.stage != Stage.APPROVED:
        why = f"“{comparison.name}”: {reason}"
        change_note(checkpoint, "stage", who=WHO, old=str(checkpoint.stage), new=STAGE, why=why)
        facts = {"stage": Stage.APPROVED, "stage_by": WHO, "stage_at": timezone.now()}
        Checkpoint.objects.filter(pk=checkpoint.pk).update(**facts)
        # Its trainer must not remove what is approved.
        hint("want", run=checkpoint.run_id)
    message = (
        f"The checkpoint of step {checkpoint.step} is approved by “{comparison.name}”. {reason}"
    )
    event_add(checkpoint.run, "alert", level="info", code=CODE, message=message)
