"""Datasets as people ask for them: lists, one, where its file lies, and which runs use it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import Q

from orchestrator.models import ENDED, Dataset, Run
from orchestrator.selectors.dataset_serves import services_of
from trainer.tables import ending_of, format_of

if TYPE_CHECKING:
    from django.db.models import QuerySet


def folder() -> Path:
    """Where the files lie, each named by its content."""
    return Path(settings.ANNEAL_DATA_DIR) / "datasets"


def dataset_path(dataset: Dataset) -> Path:
    """The file of a dataset on this server."""
    return folder() / f"{dataset.sha256}{ending_of(dataset.filename)}"


def datasets_chosen_from() -> QuerySet[Dataset]:
    """Those that people uploaded or made, newest first; none that a comparison made for its own runs."""
    return Dataset.objects.filter(made_for="").order_by("-created", "pk")


def datasets_made() -> int:
    """How many are comparisons' own."""
    return Dataset.objects.exclude(made_for="").count()


def datasets_list(
    *, q: str = "", page: int = 1, per_page: int = 50, made: bool = False
) -> tuple[list[Dataset], int]:
    """One page of datasets, newest first, and how many match; with `made` also comparisons' own."""
    found = Dataset.objects.all() if made else datasets_chosen_from()
    found = found.select_related("owner").defer("preview")
    for word in q.replace("\x00", "").split():
        found = found.filter(
            Q(name__icontains=word)
            | Q(filename__icontains=word)
            | Q(owner__username__icontains=word)
            | Q(columns__contains=[word])
            | Q(pk=word)
            | Q(sha256__startswith=word.lower())
        )
    start = (page - 1) * per_page
    return list(found.order_by("-created", "pk")[start : start + per_page]), found.count()


def dataset_get(dataset_id: str) -> Dataset | None:
    """One dataset with its owner."""
    return Dataset.objects.select_related("owner").filter(pk=dataset_id).first()


def runs_using(dataset: Dataset) -> Any:
    """Every run whose spec names the dataset, newest first."""
    named = [{"source": dataset.pk}]
    return Run.objects.filter(
        Q(spec__data__train__contains=named) | Q(spec__data__eval__contains=named)
    ).order_by("-created")


def runs_in_progress(dataset: Dataset) -> list[Run]:
    """Runs that have not ended and need the dataset."""
    return list(runs_using(dataset).exclude(state__in=ENDED))


def dataset_shape(dataset: Dataset) -> dict[str, Any]:
    """A dataset as JSON, without its rows."""
    return {
        "id": dataset.pk,
        "name": dataset.name,
        "owner": dataset.owner.get_username(),
        "filename": dataset.filename,
        "format": format_of(dataset.filename),
        "sha256": dataset.sha256,
        "bytes": dataset.bytes,
        "rows": dataset.rows,
        "columns": dataset.columns,
        "mapping": dataset.mapping,
        "serves": {
            service.kind: {"ok": service.ok, "reason": service.reason}
            for service in services_of(dataset)
        },
        "created": dataset.created.isoformat(),
    }
