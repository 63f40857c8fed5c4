"""Datasets: the list with its upload, and the page of one with its columns and first rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import Role
from orchestrator.selectors.dataset_rows import column_cards, preview_rows
from orchestrator.selectors.dataset_serves import services_of
from orchestrator.selectors.datasets import (
    dataset_get,
    datasets_list,
    datasets_made,
    runs_in_progress,
    runs_using,
)
from orchestrator.services import datasets
from orchestrator.uploads import upload_most, upload_too_large
from orchestrator.views.query import query_text, query_whole
from trainer.tables import FORMATS

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import Dataset

PER_PAGE = 50
PAGES_MOST = 100_000
RUNS_SHOWN = 5
ENDINGS = ",".join([*FORMATS, ".gz"])


@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The list."""
    return _page(request)


@require_POST
def upload(request: HttpRequest) -> HttpResponse:
    """Take a file from the plain form; pages with scripts send it to the API and show progress."""
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Only operators upload datasets.")
    typed, file = request.POST.get("name", ""), request.FILES.get("file")
    try:
        if upload_too_large(request):
            raise datasets.TooLarge(datasets.too_large_words())
        if file is None:
            raise ValueError("Choose a file first.")
        made = datasets.dataset_upload(owner=request.user, file=file, name=typed)
    except ValueError as problem:
        status = 413 if isinstance(problem, datasets.TooLarge) else 422
        return _page(request, status=status, problem=str(problem), typed=typed)
    if not made.created_now:
        messages.info(request, f"{made.name} with this content was here already.")
    return redirect("dataset", made.pk)


@require_GET
def one(request: HttpRequest, dataset_id: str) -> HttpResponse:
    """One dataset."""
    return _one(request, _dataset_or_404(dataset_id))


@require_POST
def change(request: HttpRequest, dataset_id: str) -> HttpResponse:
    """Rename it, or what its columns are called here."""
    dataset = _dataset_or_404(dataset_id)
    _may_change(request, dataset)
    name = request.POST.get("name", dataset.name)
    mapping = {
        column: request.POST.get(f"column-{place}", "")
        for place, column in enumerate(dataset.columns)
    }
    try:
        datasets.dataset_patch(dataset_id=dataset.pk, user=request.user, name=name, mapping=mapping)
    except ValueError as problem:
        return _one(request, dataset, status=422, problem=str(problem), name=name, chosen=mapping)
    messages.success(request, "Saved. Runs that are launched from now on use these names.")
    return redirect("dataset", dataset.pk)


@require_POST
def delete(request: HttpRequest, dataset_id: str) -> HttpResponse:
    """Delete it."""
    dataset = _dataset_or_404(dataset_id)
    _may_change(request, dataset)
    try:
        datasets.dataset_delete(dataset_id=dataset.pk, user=request.user)
    except ValueError as problem:
        messages.error(request, str(problem))
        return redirect("dataset", dataset.pk)
    messages.success(request, f"{dataset.name} is deleted.")
    return redirect("datasets")


def _dataset_or_404(dataset_id: str) -> Dataset:
    dataset = dataset_get(dataset_id)
    if dataset is None:
        raise Http404("there is no such dataset")
    return dataset


def _may_change(request: HttpRequest, dataset: Dataset) -> None:
    if not datasets.may_change(dataset, request.user):
        raise PermissionDenied("Only its owner or an admin may change a dataset.")


def _page(request: HttpRequest, status: int = 200, **more: Any) -> HttpResponse:
    q = query_text(request, "q")
    wanted = min(max(query_whole(request, "page") or 1, 1), PAGES_MOST)
    made = request.GET.get("made") == "1"
    found, count = datasets_list(q=q, page=wanted, per_page=PER_PAGE, made=made)
    context = {
        "rows": [_row(one) for one in found],
        "count": count,
        "q": q,
        "made": made,
        "others": not made and datasets_made(),
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
        "may_upload": request.user.has_role(Role.OPERATOR),
        "most": upload_most(),
        "most_words": f"{settings.ANNEAL_MAX_UPLOAD_MB} MiB",
        "endings": ENDINGS,
    }
    return render(request, "datasets/page.html", context | more, status=status)


def _row(dataset: Dataset) -> dict[str, Any]:
    services = services_of(dataset)
    any_ok = any(service.ok for service in services)
    return {"dataset": dataset, "services": services, "serves_any": any_ok}


def _one(
    request: HttpRequest,
    dataset: Dataset,
    status: int = 200,
    chosen: dict[str, str] | None = None,
    **more: Any,
) -> HttpResponse:
    cards = column_cards(dataset)
    used = runs_using(dataset)
    context = {
        "dataset": dataset,
        "name": dataset.name,
        "services": services_of(dataset),
        "columns": [(card, chosen[card.name] if chosen else card.ours) for card in cards],
        "suggestions": [card for card in cards if card.suggested],
        "rows": preview_rows(dataset),
        "used": used[:RUNS_SHOWN],
        "used_count": used.count(),
        "in_progress": runs_in_progress(dataset),
        "may_change": datasets.may_change(dataset, request.user),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "datasets/one.html", context | more, status=status)
