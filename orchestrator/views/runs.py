"""The run list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Role, Run, State
from orchestrator.selectors.removals import removals_shown
from orchestrator.selectors.run_rows import run_rows, state_counts, tags_in_use
from orchestrator.selectors.runs import Archived, runs_list
from orchestrator.selectors.spec_start import recipe_cards
from orchestrator.views.query import query_text, query_whole
from orchestrator.views.run import run_ask

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PER_PAGE = 50
PAGES_MOST = 100_000
FIRST_RECIPES = 3
FILTERS = ("state", "kind", "tag", "q")


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The whole page."""
    context = _listed(request)
    context |= {"states": state_counts(), "tags": tags_in_use()}
    context["archived"] = Run.objects.filter(archived__isnull=False).count()
    context["removals"] = removals_shown(timezone.now())
    context["may_launch"] = request.user.has_role(Role.OPERATOR)
    if not context["count"] and not context["filtered"]:
        context["recipes"] = recipe_cards()[:FIRST_RECIPES]
    return render(request, "runs/page.html", context)


@require_GET
def rows(request: HttpRequest) -> HttpResponse:
    """The rows alone, under the same filters, for a list that has heard of a new run."""
    return render(request, "runs/rows.html", _listed(request))


@never_cache
@require_GET
def removals(request: HttpRequest) -> HttpResponse:
    """What is being deleted and what has just gone, for a list that keeps it fresh."""
    return render(request, "runs/removals.html", {"removals": removals_shown(timezone.now())})


@require_POST
def stop(request: HttpRequest) -> HttpResponse:
    """Stop the selected runs; each saves a checkpoint first."""
    stopped = 0
    for run in Run.objects.filter(pk__in=request.POST.getlist("run")):
        try:
            run_ask(run, "stop", request.user)
            stopped += 1
        except (PermissionDenied, ValueError) as problem:
            messages.error(request, f"{run.name}: {problem}")
    if stopped:
        noun = "run" if stopped == 1 else "runs"
        messages.success(request, f"{stopped} {noun} told to save a checkpoint and stop.")
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return redirect(back if safe else "runs")


def _listed(request: HttpRequest) -> dict[str, Any]:
    chosen = {name: query_text(request, name) for name in FILTERS}
    if chosen["state"] not in State.values:
        chosen["state"] = ""
    archived: Archived = "only" if request.GET.get("archived") == "only" else "no"
    wanted = min(max(query_whole(request, "page") or 1, 1), PAGES_MOST)
    asked: dict[str, Any] = {name: value or None for name, value in chosen.items()}
    found, count = runs_list(**asked, archived=archived, page=wanted, per_page=PER_PAGE)
    return {
        "rows": run_rows(found),
        "count": count,
        "chosen": {**chosen, "archived": archived == "only"},
        "filtered": any(chosen.values()) or archived == "only",
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
    }
