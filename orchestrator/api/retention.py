"""Retention rules: what one would delete, and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router

from orchestrator.api.access import ADMINS, OPERATORS, owned
from orchestrator.api.problems import Conflict, FieldsError
from orchestrator.api.registry_shapes import AppliedOut, RetentionIn, RetentionOut
from orchestrator.api.runs import run_or_404
from orchestrator.keep_rule import KeepRule
from orchestrator.selectors.retention_plan import plan_shape, retention_plan
from orchestrator.services.keep_rules import PlanChanged, retention_apply
from trainer.spec import Problem

if TYPE_CHECKING:
    from orchestrator.services.keep_rules import Applied

router = Router(tags=["checkpoints"])

Rule = Annotated[KeepRule, Query()]


@router.get("/retention", response=RetentionOut)
def retention_simulate(request: HttpRequest, rule: Rule) -> dict[str, Any]:
    """What a rule would delete of all runs, what that frees, and why each other checkpoint stays."""
    return plan_shape(retention_plan(rule))


@router.get("/runs/{run_id}/retention", response=RetentionOut)
def run_retention_simulate(request: HttpRequest, run_id: str, rule: Rule) -> dict[str, Any]:
    """What a rule would delete of one run."""
    return plan_shape(retention_plan(rule, run=run_or_404(run_id)))


@router.post("/retention", auth=ADMINS, response=AppliedOut)
def retention_do(request: HttpRequest, payload: RetentionIn) -> dict[str, Any]:
    """Delete what the rule says, of all runs. With `expect`, 409 when another set would go by now."""
    return _applied(request, payload, None)


@router.post("/runs/{run_id}/retention", auth=OPERATORS, response=AppliedOut)
def run_retention_do(request: HttpRequest, run_id: str, payload: RetentionIn) -> dict[str, Any]:
    """Delete what the rule says, of one run of one's own; admins of any."""
    run = owned(run_or_404(run_id), request.auth)
    return _applied(request, payload, run.pk)


def _applied(request: HttpRequest, payload: RetentionIn, run_id: str | None) -> dict[str, Any]:
    caller = request.auth
    if payload.rule is None:
        raise FieldsError([Problem(path="rule", message="say what of each run stays")])
    try:
        done: Applied = retention_apply(
            rule=payload.rule,
            user=caller.user,
            role=caller.role,
            run_id=run_id,
            expect=payload.expect,
        )
    except PlanChanged as error:
        raise Conflict(str(error)) from error
    return {"deleted": [one.pk for one in done.deleted], "bytes": done.bytes}
