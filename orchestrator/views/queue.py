"""The queue's page, and what the owner of a run decides about its place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Run
from orchestrator.selectors import queue
from orchestrator.services.runs import run_patch
from orchestrator.views.run import may_change

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PRIORITY_MOST = 1000


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The whole page."""
    return render(request, "queue/page.html", _listed(request))


@never_cache
@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The line and the shares alone, for a page that keeps itself fresh."""
    return render(request, "queue/rows.html", _listed(request))


@require_POST
def change(request: HttpRequest, run_id: str) -> HttpResponse:
    """Set the priority of a run, and whether it gives way."""
    run = get_object_or_404(Run, pk=run_id)
    if not may_change(request.user, run):
        raise PermissionDenied("Only the owner of a run and admins change it.")
    try:
        changes = {"priority": _priority(request.POST.get("priority", ""))}
        if "way" in request.POST:
            changes["preemptible"] = "preemptible" in request.POST
        run_patch(run_id=run_id, user=request.user, changes=changes)
        messages.success(request, f"{run.name} has priority {changes['priority']}.")
    except ValueError as problem:
        messages.error(request, str(problem))
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return redirect(back) if safe else redirect("run", run_id=run_id)


def _priority(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = PRIORITY_MOST + 1
    if not -PRIORITY_MOST <= value <= PRIORITY_MOST:
        raise ValueError(
            f"priority must be a whole number from -{PRIORITY_MOST} to {PRIORITY_MOST}; "
            f"'{text[:20]}' is not."
        )
    return value


def _listed(request: HttpRequest) -> dict[str, Any]:
    runs = queue.queue_runs()
    shapes = queue.queue_shapes(runs)
    shares = queue.share_rows()
    return {
        "rows": [
            {**shape, "run": run, "may_change": may_change(request.user, run)}
            for run, shape in zip(runs, shapes, strict=True)
        ],
        "shares": shares,
        "most": max((row["share_hours"] for row in shares), default=0) or 1,
        "half_life": queue.half_life_hours(),
    }
