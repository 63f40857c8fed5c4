"""Answers of a comparison side by side, and what one arm lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.paginator import Paginator
from django.shortcuts import render
from django.views.decorators.http import require_GET

from orchestrator.selectors.comparison_pairs import (
    View,
    counts_of,
    items_shown,
    places_of,
    view_of,
)
from orchestrator.selectors.comparison_readings import kl_of, readings_shown
from orchestrator.selectors.comparison_regressions import regressions_page
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparisons import scorers_of
from orchestrator.views.compare import comparison_or_404, head, page_wanted, sets_to_add_to
from orchestrator.views.query import query_text, query_whole

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Comparison
    from orchestrator.selectors.comparison_sheet import Sheet

PER_PAGE = 20
REGRESSIONS_PER_PAGE = 50
FILTERS = (
    ("all", "all"),
    ("a-wins", "A wins"),
    ("b-wins", "B wins"),
    ("both-fail", "both fail"),
    ("disagree", "largest disagreement"),
    ("longest", "longest"),
    ("left-out", "failed items"),
)
KEPT = ("scorer", "a", "b", "show", "q", "mode")
"""Parts of the address that go along from prompt to prompt."""


@require_GET
def side(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """One prompt at a time with every arm's answers, or a list of them."""
    comparison = comparison_or_404(comparison_id)
    context = head(request, comparison, "side")
    sheet = sheet_of(comparison, context["progress"])
    view, problem = _view(request, comparison, sheet)
    places = places_of(comparison, sheet, view)
    listed = request.GET.get("mode") == "list"
    context |= _choices(comparison, sheet, view) | {
        "problem": problem,
        "counts": counts_of(sheet, view),
        "filters": FILTERS,
        "count": len(places),
        "mode": "list" if listed else "one",
        "kept": _kept(request),
    }
    if listed:
        wanted = page_wanted(request)
        start = (wanted - 1) * PER_PAGE
        context["shown"] = items_shown(comparison, sheet, view, places[start : start + PER_PAGE])
        context["pages"] = Paginator(range(len(places)), PER_PAGE).get_page(wanted)
    else:
        context |= _one(request, comparison, sheet, view, places)
    told = readings_shown(comparison, context["shown"])
    for item in context["shown"]:
        item["kl"] = kl_of(told, item)
    context["readings"] = told
    context["play"] = _models(comparison, context["a"], context["b"])
    return render(request, "compare/side.html", context)


def _models(comparison: Comparison, *names: str) -> str:
    """These arms' models as the form of a playground takes them; "" for answers that came from a file."""
    models = dict(comparison.arms.values_list("name", "model"))
    found = [models.get(name, "") for name in names]
    return "" if comparison.imported or not all(found) else ",".join(found)


@require_GET
def regressions(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """Prompts that A solves and B loses, the surest first."""
    comparison = comparison_or_404(comparison_id)
    context = head(request, comparison, "regressions")
    sheet = sheet_of(comparison, context["progress"])
    view, problem = _view(request, comparison, sheet)
    wanted = page_wanted(request)
    found, count = regressions_page(
        comparison, sheet, view, page=wanted, per_page=REGRESSIONS_PER_PAGE
    )
    context |= _choices(comparison, sheet, view) | {
        "problem": problem,
        "rows": found,
        "count": count,
        "pages": Paginator(range(count), REGRESSIONS_PER_PAGE).get_page(wanted),
        "sets": sets_to_add_to(),
        "binary": sheet.binary(view.scorer),
        "back": request.GET.urlencode(),
    }
    return render(request, "compare/regressions.html", context)


def _view(request: HttpRequest, comparison: Comparison, sheet: Sheet) -> tuple[View, str]:
    """The view of the address; the plain one and a sentence where it names what is not there."""
    asked = {name: query_text(request, name) for name in ("scorer", "a", "b", "q")}
    show = query_text(request, "show") or "all"
    try:
        return view_of(comparison, sheet, show=show, **asked), ""
    except ValueError as error:
        return view_of(comparison, sheet), str(error)


def _choices(comparison: Comparison, sheet: Sheet, view: View) -> dict[str, Any]:
    return {
        "view": view,
        "names": sheet.names(),
        "a": sheet.names()[view.a],
        "b": sheet.names()[view.b],
        "labels": list(scorers_of(comparison)),
    }


def _kept(request: HttpRequest) -> str:
    """The beginning of an address's query that leaves all but the prompt as it is."""
    kept = urlencode({name: value for name in KEPT if (value := query_text(request, name))})
    return f"{kept}&" if kept else ""


def _one(
    request: HttpRequest, comparison: Comparison, sheet: Sheet, view: View, places: list[int]
) -> dict[str, Any]:
    """The prompt of the address among those of the view, and the ones around it."""
    number = query_whole(request, "n")
    by_number = {sheet.numbers[place]: at for at, place in enumerate(places)}
    at = by_number.get(number or 0, 0)
    first = max(0, min(at - PER_PAGE // 2, len(places) - PER_PAGE))
    around = places[first : first + PER_PAGE]
    some = items_shown(comparison, sheet, view, around)
    return {
        "shown": some[at - first : at - first + 1] if places else [],
        "around": some,
        "place": at + 1,
        "before": sheet.numbers[places[at - 1]] if places and at else None,
        "after": sheet.numbers[places[at + 1]] if at + 1 < len(places) else None,
    }
