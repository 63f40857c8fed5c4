"""The page that makes a run: recipe cards, the form, the review beside it, launch."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from orchestrator.models import Role
from orchestrator.selectors import spec_choices, spec_desk, spec_start
from orchestrator.services.idempotency import once, request_digest
from orchestrator.services.runs import run_create
from orchestrator.views.query import query_text
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Run
    from orchestrator.selectors.spec_desk import Desk

FIRST_RECIPES = 5
"""One row of cards, so that the form begins above the fold."""


@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """The whole page; a POST launches what it holds."""
    if request.method == "POST":
        return _launch(request)
    try:
        query = {name: query_text(request, name) for name in request.GET}
        start = spec_start.start_from(query)
    except ValueError as error:
        messages.error(request, str(error))
        start = spec_start.start_from({})
    return _page(request, spec_desk.desk_open(start))


@require_POST
def form(request: HttpRequest) -> HttpResponse:
    """The fields again, after a switch of method, an added or removed item, or edited text."""
    desk = spec_desk.desk_read(dict(request.POST.lists()))
    return render(request, "new_run/form_answer.html", _context(request, desk))


@require_POST
def review(request: HttpRequest) -> HttpResponse:
    """What will happen, while the fields stay as they are."""
    desk = spec_desk.desk_read(dict(request.POST.lists()))
    return render(request, "new_run/review_answer.html", _context(request, desk))


def _launch(request: HttpRequest) -> HttpResponse:
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Your role is viewer: an operator or an admin launches runs.")
    desk = spec_desk.desk_read(dict(request.POST.lists()))
    if desk.launchable:
        try:
            return redirect("run", run_id=_run_of(request, desk).pk)
        except SpecError as error:
            desk.add_problems(error.problems)
        except ValueError as error:
            desk.add_problem("", str(error))
    return _page(request, desk, status=422)


def _run_of(request: HttpRequest, desk: Desk) -> Run:
    """The run of this page and this spec: sent twice, it is the same one."""
    order = json.dumps({**desk.order, "fork": desk.fork}, sort_keys=True).encode()
    digest = request_digest("POST", request.path, order)
    key = f"form:{desk.key[:64]}:{digest[:32]}" if desk.key else None
    make = partial(run_create, owner=request.user, parent=desk.parent, **desk.order)
    return once(user=request.user, key=key, request=digest, make=make)


def _page(request: HttpRequest, desk: Desk, status: int = 200) -> HttpResponse:
    recipes = spec_start.recipe_cards()
    context = _context(request, desk) | {
        "recipes": recipes,
        "first_recipes": recipes[:FIRST_RECIPES],
        "more_recipes": recipes[FIRST_RECIPES:],
    }
    return render(request, "new_run/page.html", context, status=status)


def _context(request: HttpRequest, desk: Desk) -> dict[str, Any]:
    return {
        "desk": desk,
        "may_launch": request.user.has_role(Role.OPERATOR),
        "lists": {
            "models": spec_choices.model_choices(),
            "reward_models": spec_choices.reward_model_choices(),
            "data": spec_choices.data_choices(),
        },
    }
