"""The retention simulator: what a rule would delete and why the rest stays; and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_GET, require_POST
from pydantic import ValidationError

from orchestrator.keep_rule import KeepRule
from orchestrator.models import Role, Run
from orchestrator.selectors.retention_plan import retention_plan
from orchestrator.services.keep_rules import PlanChanged, retention_apply
from orchestrator.templatetags.figures import size
from trainer.spec import problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpRequest, HttpResponse

ROWS_SHOWN = 500
RUNS_SHOWN = 200
FIELDS = tuple(KeepRule.model_fields)


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """What the rule in the address would do."""
    run = _run(request.GET.get("run", ""))
    typed = _typed(request.GET)
    context: dict[str, Any] = {
        "typed": typed,
        "run": run,
        "runs": _runs(),
        "may_apply": _may_apply(request, run),
        "rows_shown": ROWS_SHOWN,
    }
    try:
        plan = retention_plan(_rule(typed), run=run)
    except ValueError as problem:
        problems = str(problem).splitlines()
        return render(
            request, "checkpoints/retention.html", context | {"problems": problems}, status=422
        )
    rows = plan.rows
    found = {"plan": plan, "decision": plan.decision, "rows": rows[:ROWS_SHOWN], "count": len(rows)}
    return render(request, "checkpoints/retention.html", context | found)


@require_POST
def apply(request: HttpRequest) -> HttpResponse:
    """Delete what the rule says, if that is still what was looked at."""
    run = _run(request.POST.get("run", ""))
    if not _may_apply(request, run):
        raise PermissionDenied(
            "Only admins apply a rule to all runs; its owner or an admin applies it to one."
        )
    typed = _typed(request.POST)
    query = urlencode({**typed, **({"run": run.pk} if run else {})})
    back = f"{reverse('retention')}?{query}"
    try:
        done = retention_apply(
            rule=_rule(typed),
            user=request.user,
            run_id=run.pk if run else None,
            expect=request.POST.get("expect", "") or "nothing",
        )
    except PlanChanged as problem:
        messages.warning(request, str(problem))
        return redirect(back)
    except ValueError as problem:
        messages.error(request, str(problem))
        return redirect(back)
    count = len(done.deleted)
    words = f"{count} checkpoint{'' if count == 1 else 's'} deleted; {size(done.bytes)} go in the background."
    messages.success(request, words)
    return redirect(back)


def _may_apply(request: HttpRequest, run: Run | None) -> bool:
    if request.user.has_role(Role.ADMIN):
        return True
    is_owner = run is not None and run.owner_id == request.user.pk
    return is_owner and request.user.has_role(Role.OPERATOR)


def _run(text: str) -> Run | None:
    """The run that is asked for; None for all."""
    if not text:
        return None
    found = Run.objects.filter(pk=text[:12].replace("\x00", "")).first()
    if found is None:
        raise Http404("there is no such run")
    return found


def _runs() -> list[Run]:
    """Runs that keep checkpoints, newest first, with how many."""
    kept = Count("checkpoints", filter=Q(checkpoints__deleted=None))
    found = Run.objects.annotate(kept=kept).filter(kept__gt=0).order_by("-created")
    return list(found.only("pk", "name", "created")[:RUNS_SHOWN])


def _typed(sent: Mapping[str, str]) -> dict[str, str]:
    """The rule as it stands in the form: an empty field is off; an address without any gives the usual rule."""
    if not any(name in sent for name in FIELDS):
        usual = KeepRule()
        return {name: f"{getattr(usual, name)}" for name in FIELDS}
    return {name: sent.get(name, "").strip()[:200] for name in FIELDS}


def _rule(typed: dict[str, str]) -> KeepRule:
    """The rule. Raises ValueError with a sentence for each field that is wrong."""
    said = {name: text or ("" if name == "metric" else "0") for name, text in typed.items()}
    try:
        return KeepRule.model_validate(said)
    except ValidationError as error:
        found = [
            f"{one.path}: {one.message}" if one.path else one.message for one in problems_of(error)
        ]
        raise ValueError("\n".join(found)) from error
