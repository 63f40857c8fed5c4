"""Checkpoints of all runs beside external models, and one checkpoint with its files, its lineage and its stage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from orchestrator.compare_link import compare_address
from orchestrator.models import Role, Run, Stage
from orchestrator.selectors import checkpoint_rows
from orchestrator.selectors.checkpoint_needs import children_of, needs_of
from orchestrator.selectors.checkpoint_search import Asked
from orchestrator.selectors.checkpoints import changes_of, checkpoint_get, oldest_first
from orchestrator.selectors.comparisons import comparisons_list
from orchestrator.selectors.external_facts import size_words
from orchestrator.selectors.externals import externals_list, where_words
from orchestrator.selectors.registry_lineage import descendants_of, lineage_of
from orchestrator.selectors.reward_models import is_scoring
from orchestrator.services.checkpoint_listing import checkpoint_listing
from orchestrator.services.checkpoint_removals import checkpoint_delete
from orchestrator.services.checkpoints import in_store
from orchestrator.services.registry import checkpoint_patch, may_change, subject_of
from orchestrator.views.query import query_text, query_whole

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, QueryDict

    from orchestrator.models import Checkpoint, External

PER_PAGE = 50
PAGES_MOST = 100_000
EXTERNALS_SHOWN = 100
MODEL = re.compile(r"(checkpoint|external):[a-z2-7]{12}")
KINDS = ("", "run", "external")
"""What the list holds: both, or one of them."""
COMPARED_SHOWN = 5
ADAPTER_FILE = "adapter_config.json"
"""Only a checkpoint with an adapter has it."""


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The list."""
    asked, kind = _asked(request), request.GET.get("kind", "")
    kind = kind if kind in KINDS else ""
    wanted = min(max(query_whole(request, "page") or 1, 1), PAGES_MOST)
    rows: list[dict[str, Any]] = []
    columns: list[str] = []
    count = 0
    if kind != "external":
        rows, columns, count = checkpoint_rows.checkpoint_rows(
            asked, page=wanted, per_page=PER_PAGE
        )
    externals: list[External] = []
    external_count = 0
    # Runs, metrics and what was removed are said of checkpoints alone.
    if kind != "run" and not asked.run and wanted == 1:
        said: dict[str, Any] = {"stage": asked.stage, "tag": asked.tag, "pinned": asked.pinned}
        externals, external_count = externals_list(q=asked.q, per_page=EXTERNALS_SHOWN, **said)
    for one in externals:
        one.model_words, one.where = size_words(one), where_words(one)
    stages, tags = checkpoint_rows.marks_used()
    filtered = bool(
        asked.q or asked.run or asked.stage or asked.tag or asked.pinned is not None or kind
    )
    context = {
        "rows": rows,
        "columns": columns,
        "count": count,
        "externals": externals,
        "external_count": external_count,
        "asked": asked,
        "kind": kind,
        "filtered": filtered,
        "run": Run.objects.filter(pk=asked.run).first() if asked.run else None,
        "stages": stages,
        "tags": tags,
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
        "may_launch": request.user.has_role(Role.OPERATOR),
        "compares": compare_address([]) is not None,
    }
    return render(request, "checkpoints/page.html", context)


def _asked(request: HttpRequest) -> Asked:
    """What the address asks for; nonsense asks for nothing."""
    stage = request.GET.get("stage", "")
    return Asked(
        q=query_text(request, "q"),
        run=query_text(request, "run")[:12],
        stage=stage if stage and stage in Stage.values else None,
        tag=query_text(request, "tag")[:64],
        pinned=True if request.GET.get("pinned") == "1" else None,
        removed=request.GET.get("removed") == "1",
    )


@require_GET
def compare(request: HttpRequest) -> HttpResponse:
    """Go to the comparison of the selected models."""
    models = [name for name in request.GET.getlist("with") if MODEL.fullmatch(name)]
    # A list shows the newest first; what was there first is the baseline.
    address = compare_address(oldest_first(models))
    if address is None:
        raise Http404("there is no page that compares models")
    return redirect(address)


@require_GET
def one(request: HttpRequest, checkpoint_id: str) -> HttpResponse:
    """One checkpoint: what people say of it, its lineage, its figures, its files, how to load it."""
    return _one(request, _checkpoint_or_404(checkpoint_id))


@require_POST
def change(request: HttpRequest, checkpoint_id: str) -> HttpResponse:
    """Tag, pin, stage or annotate it."""
    checkpoint = _checkpoint_or_404(checkpoint_id)
    _may_change(request, checkpoint)
    changes = changes_posted(request.POST)
    try:
        checkpoint_patch(checkpoint_id=checkpoint.pk, user=request.user, changes=changes)
    except ValueError as problem:
        return _one(request, checkpoint, status=422, problem=str(problem), typed=changes)
    messages.success(request, "Saved.")
    return redirect("checkpoint", checkpoint.pk)


def changes_posted(post: QueryDict) -> dict[str, Any]:
    """What a form says of a model: all of tags, pin, stage and note."""
    return {
        "tags": post.get("tags", "").split(","),
        "pinned": post.get("pinned") == "yes",
        "stage": post.get("stage", ""),
        "note": post.get("note", ""),
    }


@require_POST
def delete(request: HttpRequest, checkpoint_id: str) -> HttpResponse:
    """Delete it."""
    checkpoint = _checkpoint_or_404(checkpoint_id)
    _may_change(request, checkpoint)
    try:
        checkpoint_delete(checkpoint_id=checkpoint.pk, user=request.user)
    except ValueError as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"{checkpoint} is deleted; its files go in the background.")
    return redirect("checkpoint", checkpoint.pk)


def _checkpoint_or_404(checkpoint_id: str) -> Checkpoint:
    checkpoint = checkpoint_get(checkpoint_id)
    if checkpoint is None:
        raise Http404("there is no such checkpoint")
    return checkpoint


def _may_change(request: HttpRequest, checkpoint: Checkpoint) -> None:
    if not may_change(checkpoint, request.user):
        raise PermissionDenied("Only its owner or an admin may change a checkpoint.")


def _one(
    request: HttpRequest, checkpoint: Checkpoint, status: int = 200, **more: Any
) -> HttpResponse:
    compared, compared_count = comparisons_list(checkpoint=checkpoint.pk, per_page=COMPARED_SHOWN)
    context: dict[str, Any] = {
        "checkpoint": checkpoint,
        "compared": compared,
        "compared_count": compared_count,
        "best": checkpoint_rows.checkpoint_marks(checkpoint),
        "metrics": sorted(checkpoint.metrics.items()),
        "may_launch": request.user.has_role(Role.OPERATOR),
        "children": children_of([checkpoint]).get(checkpoint.pk, ()),
        "needs": needs_of([checkpoint]).get(checkpoint.pk, ()),
        **registry_context(request, checkpoint),
        **more,
    }
    context |= _files(request, checkpoint)
    return render(request, "checkpoints/one.html", context, status=status)


def registry_context(request: HttpRequest, thing: Any) -> dict[str, Any]:
    """What the page of a checkpoint and that of an external model share."""
    return {
        "thing": thing,
        "typed": {
            "tags": thing.tags,
            "pinned": thing.pinned,
            "stage": thing.stage,
            "note": thing.note,
        },
        "may_change": may_change(thing, request.user),
        "stages": Stage.choices,
        "lineage": lineage_of(thing),
        "descendants": descendants_of(thing),
        "changes": changes_of(subject_of(thing)),
        "compare_url": compare_address([subject_of(thing)]),
    }


def _files(request: HttpRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    try:
        folder, files = checkpoint_listing(checkpoint)
    except ValueError as problem:
        return {"gone": str(problem)}
    scores = is_scoring(checkpoint.run.spec)
    listing = request.build_absolute_uri(reverse("api:checkpoint_listing", args=[checkpoint.pk]))
    name = f"checkpoint-{checkpoint.pk}"
    return {
        "folder": folder,
        "files": files,
        "scores": scores,
        "whole": all(file.bytes is not None for file in files),
        # Libraries load from folders: what lies in a store is downloaded first.
        "load": "" if in_store(checkpoint) else checkpoint_rows.load_text(folder, scores=scores),
        "fetch": checkpoint_rows.fetch_text(listing, name),
        "export": checkpoint_rows.export_texts(
            name if in_store(checkpoint) else folder,
            adapter=any(file.name == ADAPTER_FILE for file in files),
        ),
    }
