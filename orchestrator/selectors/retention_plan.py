"""What a retention rule would do: the facts for `keep_rule.decide`, and its decision as people read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils import timezone

from orchestrator.keep_rule import Decision, KeepRule, Kept, decide
from orchestrator.models import Checkpoint, Run
from orchestrator.selectors.checkpoint_needs import children_of, needs_of
from orchestrator.selectors.reach import is_stored
from orchestrator.selectors.run_words import spec_of
from orchestrator.selectors.saved import best_metric

NEEDED = ("name", "spec", "effective_spec")


@dataclass(frozen=True)
class Plan:
    """A rule's decision, with the checkpoints that it speaks of."""

    rule: KeepRule
    decision: Decision
    checkpoints: dict[str, Checkpoint]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Each checkpoint with what becomes of it; what goes comes first, the largest first."""
        found = [
            {"checkpoint": self.checkpoints[one.kept.id], "verdict": one, "why": "; ".join(one.why)}
            for one in self.decision.verdicts
        ]
        return sorted(found, key=lambda row: (not row["verdict"].goes, -row["verdict"].kept.bytes))


def retention_plan(rule: KeepRule, *, run: Run | None = None) -> Plan:
    """What the rule does to one run's checkpoints, or to all."""
    found = Checkpoint.objects.filter(deleted=None)
    saved = list(found.filter(run=run) if run is not None else found)
    # A run's spec is large, and many of its checkpoints share it.
    runs = Run.objects.only(*NEEDED).in_bulk({one.run_id for one in saved})
    # Of one that is being deleted just now the checkpoints go with it.
    saved = [one for one in saved if one.run_id in runs]
    for one in saved:
        one.run = runs[one.run_id]
    needs, children = needs_of(saved), children_of(saved)
    metrics = {pk: rule.metric or best_metric(spec_of(one)) for pk, one in runs.items()}
    kept = [
        Kept(
            id=one.pk,
            run=one.run_id,
            attempt=one.attempt,
            step=one.step,
            created=one.created.timestamp(),
            bytes=disk_bytes_of(one),
            value=_number(one.metrics.get(metrics[one.run_id])),
            metric=metrics[one.run_id],
            protection=one.protection,
            needed=needs.get(one.pk, ()),
            children=children.get(one.pk, ()),
        )
        for one in saved
    ]
    decision = decide(rule, kept, timezone.now().timestamp())
    return Plan(rule, decision, {one.pk: one for one in saved})


def disk_bytes_of(checkpoint: Checkpoint) -> int:
    """What its files take up: where they were saved, and the server's or the store's copy."""
    return checkpoint.bytes * (2 if is_stored(checkpoint) else 1)


def plan_shape(plan: Plan) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "rule": plan.rule.model_dump(),
        "digest": plan.decision.digest,
        "deletes": len(plan.decision.going),
        "frees": plan.decision.freed,
        "keeps": len(plan.decision.verdicts) - len(plan.decision.going),
        "keeps_bytes": plan.decision.stays,
        "items": [
            {
                "checkpoint": row["checkpoint"].pk,
                "run": row["checkpoint"].run_id,
                "run_name": row["checkpoint"].run.name,
                "step": row["checkpoint"].step,
                "bytes": row["verdict"].kept.bytes,
                "goes": row["verdict"].goes,
                "why": list(row["verdict"].why),
            }
            for row in plan.rows
        ],
    }


def _number(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number else None
