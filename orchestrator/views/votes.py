"""Blind votes on a comparison's answers, the ratings that follow, and their export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Role
from orchestrator.selectors.ballot_pool import ballot_pool
from orchestrator.selectors.datasets import datasets_list
from orchestrator.selectors.rating_tables import blocks_shown, figure_of
from orchestrator.selectors.ratings import ratings_shape
from orchestrator.selectors.vote_room import room_of, voted_by
from orchestrator.services.ballots import may_vote
from orchestrator.services.preferences import preferences_export
from orchestrator.views.compare import comparison_or_404, head
from trainer.spec import RUN_PREFIX

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Comparison

SETS_SHOWN = 100
TYPED_MOST = 1000


@require_GET
def vote(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """Two answers without names. The page itself holds none: it asks for a ballot."""
    comparison = comparison_or_404(comparison_id)
    allowed = may_vote(request.user)
    context: dict[str, Any] = {
        **head(request, comparison, "vote"),
        "allowed": allowed,
        "room": room_of(ballot_pool(comparison, request.user)),
        "voted": voted_by(comparison, request.user),
        "may_mark": request.user.has_role(Role.ADMIN),
    }
    return render(request, "compare/vote.html", context, status=200 if allowed else 403)


@require_GET
def ratings(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """Ratings, wins, and how far voters agree."""
    return _ratings(request, comparison_or_404(comparison_id))


@require_POST
def preferences(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """Make a data set of preference pairs."""
    comparison = comparison_or_404(comparison_id)
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Only operators export votes as a data set.")
    typed = {name: request.POST.get(name, "")[:TYPED_MOST] for name in ("name", "runs")}
    chosen, weighted = request.POST.getlist("against")[:SETS_SHOWN], "weighted" in request.POST
    runs = [one.removeprefix(RUN_PREFIX) for one in typed["runs"].replace(",", " ").split()]
    try:
        made = preferences_export(
            comparison=comparison,
            user=request.user,
            name=typed["name"],
            against=[*chosen, *(f"{RUN_PREFIX}{one}" for one in runs)],
            weighted=weighted,
        )
    except ValueError as problem:
        words = {"problem": str(problem), "typed": typed, "chosen": chosen, "weighted": weighted}
        return _ratings(request, comparison, status=422, **words)
    stored = f"{made.pairs} pair{'' if made.pairs == 1 else 's'}"
    left = sum(made.left_out.values())
    reasons = ", ".join(f"{count} {why}" for why, count in sorted(made.left_out.items()))
    more = f" {left} left out: {reasons}." if left else ""
    held = f" Held against {', '.join(made.sets)}." if made.sets else ""
    messages.success(request, f"{stored} stored.{more}{held}")
    return redirect("dataset", made.dataset.pk)


def _ratings(
    request: HttpRequest, comparison: Comparison, status: int = 200, **more: Any
) -> HttpResponse:
    asked = {name: request.GET.get(name) == "1" for name in ("style", "weights")}
    found = ratings_shape(comparison, style_control=asked["style"], weighted=asked["weights"])
    here = reverse("comparison_ratings", args=[comparison.pk])
    sets, _ = datasets_list(per_page=SETS_SHOWN)
    context = {
        **head(request, comparison, "ratings"),
        "found": found,
        "blocks": blocks_shown(found),
        "figures": {kind: figure_of(found[kind]) for kind in ("people", "models")},
        "asked": asked,
        "switches": [
            _switch(here, asked, "style", "Style control"),
            _switch(here, asked, "weights", "Voters' weights"),
        ],
        "allowed": may_vote(request.user),
        "may_export": request.user.has_role(Role.OPERATOR),
        "sets": sets,
        "sources": ", ".join(str(one.get("source", "")) for one in comparison.prompts),
    }
    return render(request, "compare/ratings.html", context | more, status=status)


def _switch(here: str, asked: dict[str, bool], name: str, label: str) -> dict[str, Any]:
    turned = {key: 1 for key, on in {**asked, name: not asked[name]}.items() if on}
    query = f"?{urlencode(turned)}" if turned else ""
    return {"label": label, "on": asked[name], "url": here + query}
