"""Comparisons: the list, and the pages of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Role
from orchestrator.selectors.comparison_evidence import Unit, comparison_evidence
from orchestrator.selectors.comparison_figures import forest, passes
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparison_state import SETTLED
from orchestrator.selectors.comparisons import (
    comparison_get,
    comparison_progress,
    comparison_shape,
    comparisons_list,
    parts_of,
    scorers_of,
)
from orchestrator.selectors.datasets import datasets_chosen_from
from orchestrator.selectors.judge_figures import judges_shape
from orchestrator.services import comparisons, evaluation_sets
from orchestrator.views.query import query_text, query_whole
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Comparison

PER_PAGE = 25
PAGES_MOST = 100_000
SETS_SHOWN = 200
VERBS = {
    "stop": comparisons.comparison_stop,
    "resume": comparisons.comparison_resume,
    "read": comparisons.comparison_read_on,
}


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The list."""
    q, checkpoint = query_text(request, "q"), query_text(request, "checkpoint")[:12]
    wanted = page_wanted(request)
    found, count = comparisons_list(q=q, checkpoint=checkpoint, page=wanted, per_page=PER_PAGE)
    context = {
        "rows": [comparison_shape(one) for one in found],
        "count": count,
        "q": q,
        "checkpoint": checkpoint,
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "compare/page.html", context)


@require_GET
def verdict(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """What the scores say."""
    return verdict_page(request, comparison_or_404(comparison_id))


def verdict_page(
    request: HttpRequest,
    comparison: Comparison,
    *,
    draft: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    """The verdict; `draft` is a form for a judge that is not accepted yet."""
    context = head(request, comparison, "verdict")
    unit: Unit = "recipes" if request.GET.get("unit") == "recipes" else "arms"
    try:
        evidence = comparison_evidence(
            comparison,
            scorer=query_text(request, "scorer"),
            baseline=query_text(request, "baseline"),
            unit=unit,
        )
    except ValueError as problem:
        context["problem"] = str(problem)
        evidence = comparison_evidence(comparison)
    context |= {
        "evidence": evidence,
        "forest": forest(evidence) if evidence["findings"] else None,
        "passes": passes(evidence),
        "labels": list(scorers_of(comparison)),
        "judges": judges_shape(comparison, context["progress"]),
        "draft": draft or {},
    }
    return render(request, "compare/verdict.html", context, status=status)


@require_GET
def report(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """The files that hold all of it."""
    comparison = comparison_or_404(comparison_id)
    context = head(request, comparison, "report") | {"parts": parts_of(comparison)}
    return render(request, "compare/report.html", context)


@never_cache
@require_GET
def progress(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """How far it is, for a page that keeps it fresh."""
    comparison = comparison_or_404(comparison_id)
    return render(request, "compare/progress.html", head(request, comparison, ""))


@require_POST
def act(request: HttpRequest, comparison_id: str, verb: str) -> HttpResponse:
    """Stop it, launch again what is missing, let its models read, rename it, or delete it."""
    comparison = comparison_or_404(comparison_id)
    words: dict[str, Any] = {"comparison_id": comparison.pk, "user": request.user}
    try:
        if verb == "delete":
            comparisons.comparison_delete(**words)
            messages.success(request, f"{comparison.name} is deleted.")
            return redirect("compare")
        if verb == "change":
            changes = {
                name: request.POST[name] for name in ("name", "note") if name in request.POST
            }
            comparisons.comparison_patch(**words, changes=changes)
        elif verb in VERBS:
            VERBS[verb](**words)
        else:
            raise Http404("a comparison cannot be asked that")
    except SpecError as error:
        messages.error(request, "; ".join(str(one) for one in error.problems))
    except ValueError as problem:
        messages.error(request, str(problem))
    return redirect("comparison", comparison.pk)


@require_POST
def keep(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """Add prompts to an evaluation set: a new dataset, or a new version of one."""
    comparison = comparison_or_404(comparison_id)
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Your role is viewer: an operator or an admin makes datasets.")
    # A row's own button adds that prompt alone, whatever else is chosen.
    named = request.POST.getlist("only") or request.POST.getlist("item")
    numbers = [int(text) for text in named if text.isdecimal()]
    back = reverse("comparison_regressions", args=[comparison.pk])
    try:
        made = evaluation_sets.evaluation_set_add(
            comparison=comparison,
            user=request.user,
            numbers=numbers,
            name=request.POST.get("name", ""),
            dataset_id=request.POST.get("dataset", ""),
        )
    except ValueError as problem:
        messages.error(request, str(problem))
        return redirect(f"{back}?{request.POST.get('back', '')[:500]}")
    messages.success(request, f"{made.name} has {made.rows} prompts now.")
    return redirect("dataset", made.pk)


def comparison_or_404(comparison_id: str) -> Comparison:
    """The comparison with this id."""
    comparison = comparison_get(comparison_id)
    if comparison is None:
        raise Http404("there is no such comparison")
    return comparison


def head(request: HttpRequest, comparison: Comparison, tab: str) -> dict[str, Any]:
    """What every page of a comparison shows above its own part."""
    found = comparison_progress(comparison)
    return {
        "comparison": comparison,
        "shape": comparison_shape(comparison, found),
        "progress": found,
        "live": found.state in ("waiting", "running"),
        "settled": found.state in SETTLED,
        "seeds": _seeds_words(comparison),
        "tab": tab,
        "may_change": comparisons.may_change(comparison, request.user),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }


def sets_to_add_to() -> Any:
    """Datasets that prompts can be added to, the newest first."""
    return datasets_chosen_from().only("pk", "name", "rows")[:SETS_SHOWN]


def page_wanted(request: HttpRequest) -> int:
    """The page of the query."""
    return min(max(query_whole(request, "page") or 1, 1), PAGES_MOST)


def _seeds_words(comparison: Comparison) -> str:
    """What the arms' training seeds let a verdict speak of."""
    if comparison.imported:
        return "How the models were trained is not known: verdicts speak of these models alone."
    groups: dict[str, set[int | None]] = {}
    for arm in sheet_of(comparison).arms:
        groups.setdefault(arm.recipe or f"arm {arm.id}", set()).add(arm.train_seed)
    if all(len(seeds) == 1 for seeds in groups.values()):
        return (
            "One training seed of each: verdicts speak of these checkpoints. Whether their recipes differ "
            "takes two or more seeds of each."
        )
    return "Some arms differ by training seed alone: compare them by recipe to speak of recipes."
