"""Steering a run from its page: live knobs, and the restart policy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from orchestrator.models import Run
from orchestrator.selectors.changes import steering
from orchestrator.selectors.policy_form import FIELDS, policy_read
from orchestrator.selectors.promotion_form import FIELDS as PROMOTION
from orchestrator.selectors.promotion_form import LONGEST, rule_read
from orchestrator.services.runs import run_patch
from orchestrator.views.run import may_change, page_again
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

TOLD = {
    "knobs": "It counts from the next step on.",
    "policy": "The policy is changed.",
    "promotion": "The promotion rule is changed.",
}
"""What is said of a change."""


@require_POST
def knobs(request: HttpRequest, run_id: str) -> HttpResponse:
    """Change the live knobs whose fields hold another value; `back` takes one to the spec's value."""
    run = _mine(request, run_id)
    wanted = {one["path"]: one["wanted"] for one in steering(run)["knobs"]}
    if back := request.POST.get("back", ""):
        changes: dict[str, Any] = {back: None}
        typed: dict[str, str] = {}
    else:
        typed = {path: request.POST.get(path, "").strip()[:100] for path in wanted}
        changes = {
            path: value
            for path, text in typed.items()
            if text and (value := _value(text)) != wanted[path]
        }
    if not changes:
        messages.warning(request, "Nothing was changed: every field holds what counts already.")
        return redirect("run-tab", run_id=run_id, tab="steer")
    return _patched(request, run, {"knobs": changes}, typed)


@require_POST
def policy(request: HttpRequest, run_id: str) -> HttpResponse:
    """Change what becomes of the run when an attempt of it fails."""
    run = _mine(request, run_id)
    typed = {name: request.POST.get(name, "")[:8000] for name in (*FIELDS, "max_restarts")}
    try:
        changes: dict[str, Any] = {"policy": policy_read(lambda name: typed[name])}
    except SpecError as error:
        return _refused(request, run, error, typed)
    restarts = typed["max_restarts"].strip()
    if not restarts.isascii() or not restarts.isdigit() or int(restarts) > 100:
        problem = "max_restarts: must be a whole number from 0 to 100"
        return page_again(request, run, "steer", typed=typed, problems=[problem])
    return _patched(request, run, {**changes, "max_restarts": int(restarts)}, typed)


@require_POST
def promotion(request: HttpRequest, run_id: str) -> HttpResponse:
    """Give the run a rule by which its checkpoint is compared and approved, or take it away."""
    run = _mine(request, run_id)
    if request.POST.get("off"):
        return _patched(request, run, {"promotion": None}, {})
    typed = {name: request.POST.get(name, "").strip()[:LONGEST] for name in PROMOTION}
    try:
        rule = rule_read(run, typed)
    except SpecError as error:
        return _refused(request, run, error, typed)
    return _patched(request, run, {"promotion": rule}, typed)


def _mine(request: HttpRequest, run_id: str) -> Run:
    run = get_object_or_404(Run.objects.select_related("owner", "node", "waits_for"), pk=run_id)
    if not may_change(request.user, run):
        raise PermissionDenied("Only the owner of a run and admins change it.")
    return run


def _patched(
    request: HttpRequest, run: Run, changes: dict[str, Any], typed: dict[str, str]
) -> HttpResponse:
    user: Any = request.user
    try:
        run_patch(run_id=run.pk, user=user, changes=changes)
    except SpecError as error:
        return _refused(request, run, error, typed)
    except ValueError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, next(TOLD[key] for key in TOLD if key in changes))
    return redirect("run-tab", run_id=run.pk, tab="steer")


def _refused(
    request: HttpRequest, run: Run, error: SpecError, typed: dict[str, str]
) -> HttpResponse:
    """The page once more, with what was typed and the sentence at each field."""
    problems = [str(problem) for problem in error.problems]
    return page_again(request, run, "steer", typed=typed, problems=problems)


def _value(text: str) -> Any:
    """A number where it is one; the spec's own check names what is not."""
    try:
        return json.loads(text)
    except ValueError:
        return text
