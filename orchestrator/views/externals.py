"""External models: the form that registers one, and the page of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from orchestrator.models import Node, Role
from orchestrator.selectors.external_facts import fact_rows
from orchestrator.selectors.externals import (
    external_get,
    is_here,
    runs_naming,
    runs_needing,
    where_words,
)
from orchestrator.services import externals
from orchestrator.services.registry import external_patch, may_change
from orchestrator.views.checkpoints import changes_posted, registry_context

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import External

FIELDS = ("source", "revision", "name", "node", "tags", "note")


@require_http_methods(["GET", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    """The form, and what it sends."""
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Only operators register models.")
    if request.method == "GET":
        return _form(request, {name: "" for name in FIELDS})
    typed = {name: request.POST.get(name, "") for name in FIELDS}
    words = {**typed, "tags": typed["tags"].split(",")}
    try:
        made = externals.external_register(owner=request.user, **words)
    except ValueError as problem:
        field, _, sentence = str(problem).partition(": ")
        known = field in FIELDS
        wrong = {field: sentence} if known else {"source": str(problem)}
        return _form(request, typed, wrong, status=422)
    messages.success(request, f"{made.name} is registered: name it external:{made.pk} in a spec.")
    return redirect("external", made.pk)


def _form(
    request: HttpRequest,
    typed: dict[str, str],
    wrong: dict[str, str] | None = None,
    status: int = 200,
) -> HttpResponse:
    context = {
        "typed": typed,
        "wrong": wrong or {},
        "nodes": Node.objects.filter(removed=None, local=False).order_by("name"),
        "everywhere": externals.EVERYWHERE,
    }
    return render(request, "checkpoints/register.html", context, status=status)


@require_GET
def one(request: HttpRequest, external_id: str) -> HttpResponse:
    """One external model."""
    return _one(request, _external_or_404(external_id))


@require_POST
def change(request: HttpRequest, external_id: str) -> HttpResponse:
    """Rename, tag, pin, stage or annotate it."""
    external = _mine(request, external_id)
    changes = {"name": request.POST.get("name", external.name), **changes_posted(request.POST)}
    try:
        external_patch(external_id=external.pk, user=request.user, changes=changes)
    except ValueError as problem:
        return _one(request, external, status=422, problem=str(problem), typed=changes)
    messages.success(request, "Saved.")
    return redirect("external", external.pk)


@require_POST
def reread(request: HttpRequest, external_id: str) -> HttpResponse:
    """Look into its folder again."""
    external = _mine(request, external_id)
    try:
        found = externals.external_reread(external_id=external.pk, user=request.user)
    except ValueError as problem:
        messages.error(request, str(problem))
    else:
        same = found.sha256 == external.sha256
        messages.success(request, "It is as it was." if same else "It is another model now.")
    return redirect("external", external.pk)


@require_POST
def delete(request: HttpRequest, external_id: str) -> HttpResponse:
    """Forget it; its files stay."""
    external = _mine(request, external_id)
    try:
        externals.external_delete(external_id=external.pk, user=request.user)
    except ValueError as problem:
        messages.error(request, str(problem))
        return redirect("external", external.pk)
    messages.success(request, f"{external.name} is forgotten; its files stay where they are.")
    return redirect("checkpoints")


def _external_or_404(external_id: str) -> External:
    external = external_get(external_id)
    if external is None:
        raise Http404("there is no such external model")
    return external


def _mine(request: HttpRequest, external_id: str) -> External:
    external = _external_or_404(external_id)
    if not may_change(external, request.user):
        raise PermissionDenied("Only its owner or an admin may change an external model.")
    return external


def _one(request: HttpRequest, external: External, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "external": external,
        "facts": fact_rows(external),
        "where": where_words(external),
        "is_here": is_here(external),
        "broken": externals.source_problem(external),
        "used_count": runs_naming(external).count(),
        "needing": runs_needing(external),
        "may_launch": request.user.has_role(Role.OPERATOR),
        **registry_context(request, external),
        **more,
    }
    return render(request, "checkpoints/external.html", context, status=status)
