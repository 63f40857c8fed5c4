"""Checkpoints of all runs, and one with its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET

from orchestrator.models import Role
from orchestrator.selectors import checkpoint_rows
from orchestrator.selectors.checkpoints import checkpoint_get
from orchestrator.selectors.comparisons import comparisons_list
from orchestrator.services.checkpoint_listing import checkpoint_listing
from orchestrator.services.checkpoints import in_store
from orchestrator.views.query import query_text, query_whole

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Checkpoint

PER_PAGE = 50
PAGES_MOST = 100_000
COMPARED_SHOWN = 5


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The list."""
    q, removed = query_text(request, "q"), request.GET.get("removed") == "1"
    wanted = min(max(query_whole(request, "page") or 1, 1), PAGES_MOST)
    rows, columns, count = checkpoint_rows.checkpoint_rows(
        q=q, removed=removed, page=wanted, per_page=PER_PAGE
    )
    context = {
        "rows": rows,
        "columns": columns,
        "count": count,
        "q": q,
        "removed": removed,
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "checkpoints/page.html", context)


@require_GET
def one(request: HttpRequest, checkpoint_id: str) -> HttpResponse:
    """One checkpoint: its figures, its files, how to load it."""
    checkpoint = checkpoint_get(checkpoint_id)
    if checkpoint is None:
        raise Http404("there is no such checkpoint")
    compared, compared_count = comparisons_list(checkpoint=checkpoint.pk, per_page=COMPARED_SHOWN)
    context: dict[str, Any] = {
        "checkpoint": checkpoint,
        "compared": compared,
        "compared_count": compared_count,
        "best": checkpoint_rows.checkpoint_marks(checkpoint),
        "metrics": sorted(checkpoint.metrics.items()),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "checkpoints/one.html", context | _files(request, checkpoint))


def _files(request: HttpRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        folder, files = checkpoint_listing(checkpoint)
    except ValueError as problem:
        return {"gone": str(problem)}
    listing = request.build_absolute_uri(reverse("api:checkpoint_listing", args=[checkpoint.pk]))
    name = f"checkpoint-{checkpoint.pk}"
    return {
        "folder": folder,
        "files": files,
        # Libraries load from folders: what lies in a store is downloaded first.
        "load": "" if in_store(checkpoint) else checkpoint_rows.load_text(folder),
        "fetch": checkpoint_rows.fetch_text(listing, name),
    }
