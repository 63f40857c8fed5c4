"""Judges on the page of a comparison: start one, ask again, remove."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from orchestrator.selectors.judge_figures import judges_shape
from orchestrator.services import judges
from orchestrator.services.comparisons import may_change
from orchestrator.services.event_fields import text_storable
from orchestrator.views.compare import comparison_or_404, verdict_page
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Comparison

TEXTS = ("url", "model", "key_variable", "instruction", "column")
NUMBERS = ("repeats", "temperature")
REFUSED = "Only its owner or an admin may ask a judge about a comparison."


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest, comparison_id: str) -> HttpResponse:
    """What the judges say, for a page that keeps it fresh; a POST starts one."""
    comparison = comparison_or_404(comparison_id)
    if request.method != "POST":
        context = {
            "comparison": comparison,
            "judges": judges_shape(comparison),
            "may_change": may_change(comparison, request.user),
        }
        return render(request, "compare/judges.html", context)
    _refuse_others(request, comparison)
    typed = {name: text_storable(request.POST.get(name, "")).strip() for name in (*TEXTS, *NUMBERS)}
    left, right = (text_storable(request.POST.get(name, "")) for name in ("left", "right"))
    swap = request.POST.get("swap") == "on"
    knobs: dict[str, Any] = {name: text for name, text in typed.items() if text}
    try:
        judges.judge_add(
            comparison_id=comparison.pk, knobs={**knobs, "swap": swap}, left=left, right=right
        )
    except SpecError as error:
        draft = {**typed, "swap": swap, "left": left, "right": right, "open": True}
        draft["problems"] = [
            f"{one.path}: {one.message}" if one.path else one.message for one in error.problems
        ]
        return verdict_page(request, comparison, draft=draft, status=422)
    except ValueError as problem:
        messages.error(request, str(problem))
    return redirect("comparison", comparison.pk)


@require_POST
def act(request: HttpRequest, comparison_id: str, digest: str, verb: str) -> HttpResponse:
    """Ask what is missing, ask again what failed, or remove a judge."""
    comparison = comparison_or_404(comparison_id)
    _refuse_others(request, comparison)
    words = {"comparison_id": comparison.pk, "digest": digest}
    try:
        if verb == "remove":
            judges.judge_remove(**words, user=request.user)
        elif verb in ("ask", "again"):
            judges.judge_ask(**words, failed=verb == "again")
        else:
            raise Http404("a judge cannot be asked that")
    except KeyError as error:
        raise Http404("there is no such judge here") from error
    except SpecError as error:
        messages.error(request, "; ".join(str(one) for one in error.problems))
    except ValueError as problem:
        messages.error(request, str(problem))
    return redirect("comparison", comparison.pk)


def _refuse_others(request: HttpRequest, comparison: Comparison) -> None:
    if not may_change(comparison, request.user):
        raise PermissionDenied(REFUSED)
