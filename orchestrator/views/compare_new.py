"""Make a comparison: of models here, or of a file that was made elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from orchestrator.models import Role
from orchestrator.selectors import comparison_form, spec_choices
from orchestrator.selectors.comparisons import comparison_get
from orchestrator.services import comparisons, datasets
from orchestrator.services.comparison_import import comparison_import
from orchestrator.services.idempotency import once_named, request_digest
from orchestrator.uploads import upload_too_large
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Comparison
    from orchestrator.selectors.comparison_form import Draft

NAMES_MOST = 2000
REFUSED = "Your role is viewer: an operator or an admin makes comparisons."


@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """The form; a POST makes the comparison that it holds."""
    if request.method != "POST":
        named = request.GET.get("with", "").replace("\x00", "")[:NAMES_MOST]
        return _page(request, comparison_form.draft_first(named))
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied(REFUSED)
    draft, order = comparison_form.draft_read(request.POST)
    if not draft.problems:
        digest = request_digest("POST", request.path, json.dumps(order, sort_keys=True).encode())

        def make(comparison_id: str | None) -> Comparison:
            return comparisons.comparison_create(
                owner=request.user, comparison_id=comparison_id, **order
            )

        # Sent twice, it is the same one; mended and sent again, it is another.
        key = f"compare:{draft.key}:{digest[:32]}"
        try:
            made = once_named(
                user=request.user, key=key, request=digest, find=comparison_get, make=make
            )
            return redirect("comparison", made.pk)
        except SpecError as error:
            draft.add_problems(error.problems)
        except ValueError as error:
            draft.problems.setdefault("", []).append(str(error))
    return _page(request, draft.complete, status=422)


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    """Take a file of answers from the list's page."""
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied(REFUSED)
    file = request.FILES.get("file")
    try:
        if upload_too_large(request):
            raise datasets.TooLarge(datasets.too_large_words())
        if file is None:
            raise ValueError("Choose a file first.")
        made = comparison_import(
            owner=request.user, file=file, name=request.POST.get("name", "")[:200]
        )
    except ValueError as problem:
        messages.error(request, str(problem)[:600])
        return redirect("compare")
    return redirect("comparison", made.pk)


def _page(request: HttpRequest, draft: Draft, status: int = 200) -> HttpResponse:
    models = spec_choices.model_choices()
    context = {
        "draft": draft,
        "scorer_types": comparison_form.scorer_choices(),
        "scorer_knobs": comparison_form.knob_choices(),
        "models": models,
        "model_names": {one.value: one.label for some in models.values() for one in some},
        "data": comparison_form.prompt_choices(),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "compare/new.html", context, status=status)
