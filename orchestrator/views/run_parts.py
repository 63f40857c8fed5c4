"""Parts of a run's page that it asks for again while the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from orchestrator.models import Role, Run
from orchestrator.selectors.events import events_list
from orchestrator.selectors.plan import plan_page
from orchestrator.selectors.sample_groups import groups_newest
from orchestrator.selectors.stalls import stall_shape
from orchestrator.views.run import may_change
from orchestrator.views.run_tabs import FEW_EVENTS, post_mortem_card
from orchestrator.views.run_tabs import post_mortem as post_mortem_of
from orchestrator.views.run_tabs import truth as truth_of

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@require_GET
def newest(request: HttpRequest, run_id: str) -> HttpResponse:
    """The newest group of answers."""
    run = get_object_or_404(Run, pk=run_id)
    return render(request, "run/part_newest.html", {"groups": groups_newest(run=run)})


@require_GET
def events(request: HttpRequest, run_id: str) -> HttpResponse:
    """The newest events."""
    run = get_object_or_404(Run, pk=run_id)
    found = events_list(run=run, per_page=FEW_EVENTS)[0]
    return render(request, "run/part_events.html", {"run": run, "events": found})


@require_GET
def stall(request: HttpRequest, run_id: str) -> HttpResponse:
    """The stall that the run is in; nothing while it is in none."""
    run = get_object_or_404(Run, pk=run_id)
    told = {"run": run, "stall": stall_shape(run), "may_change": may_change(request.user, run)}
    return render(request, "run/part_stall.html", told)


@require_GET
def truth(request: HttpRequest, run_id: str) -> HttpResponse:
    """The truth panel as of now."""
    run = get_object_or_404(Run.objects.select_related("node"), pk=run_id)
    return render(request, "run/part_truth.html", {"run": run, **truth_of(run, request)})


@require_GET
def plan(request: HttpRequest, run_id: str) -> HttpResponse:
    """The execution plan as of now."""
    run = get_object_or_404(Run.objects.select_related("node"), pk=run_id)
    return render(request, "run/part_plan.html", plan_page(run))


@require_GET
def post_mortem(request: HttpRequest, run_id: str) -> HttpResponse:
    """The post-mortem as of now: of the attempt that is asked for, or the card of the overview."""
    run = get_object_or_404(Run.objects.select_related("node"), pk=run_id)
    whole = "attempt" in request.GET
    found = post_mortem_of(run, request) if whole else post_mortem_card(run)
    may_launch = request.user.has_role(Role.OPERATOR)
    context = {"run": run, "may_launch": may_launch, **found}
    return render(request, "run/part_post_mortem.html", context)
