"""Datasets: upload, look, rename, delete, and the file itself for nodes and people."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.http import content_disposition_header
from ninja import Field, File, Form, Path, Query, Router, Schema
from ninja.errors import AuthorizationError
from ninja.files import UploadedFile

from orchestrator.api.access import OPERATORS, VIEWERS_AND_NODES
from orchestrator.api.files import file_answer
from orchestrator.api.problems import Conflict, FieldsError, problem
from orchestrator.api.shapes import Listed, Strict
from orchestrator.models import Node
from orchestrator.selectors.datasets import dataset_get, dataset_path, dataset_shape, datasets_list
from orchestrator.selectors.reach import node_reads_dataset
from orchestrator.services import datasets
from orchestrator.uploads import upload_too_large
from trainer.spec import Problem

if TYPE_CHECKING:
    from orchestrator.models import Dataset

router = Router(tags=["datasets"])

DatasetId = Annotated[str, Path(max_length=12)]


class Verdict(Schema):
    """Whether a dataset serves one kind of objective, and from which columns, or why not."""

    ok: bool
    reason: str


class DatasetOut(Schema):
    """Uploaded rows."""

    id: str
    name: str
    owner: str
    filename: str
    format: str
    sha256: str
    bytes: int
    rows: int
    columns: list[str]
    mapping: dict[str, str]
    serves: dict[str, Verdict]
    created: datetime


class DatasetLooked(DatasetOut):
    """A dataset with what its columns hold, and its first rows; long texts are cut."""

    facts: dict[str, Any]
    preview: list[dict[str, Any]]


class DatasetPatch(Strict):
    """What to change; fields that are left out stay."""

    name: str = Field("", max_length=datasets.NAME_MOST)
    mapping: dict[str, str] = Field(default_factory=dict)


@router.get("/datasets", response=Listed[DatasetOut])
def dataset_list(
    request: HttpRequest,
    q: Annotated[str, Query(max_length=200)] = "",
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    per_page: Annotated[int, Query(ge=1, le=500)] = 100,
    made: bool = False,
) -> dict[str, Any]:
    """Datasets, newest first; `q` finds words of name, file, owner or a column.

    With `made` also the rows that comparisons gave their own runs.
    """
    found, count = datasets_list(q=q, page=page, per_page=per_page, made=made)
    return {"items": [dataset_shape(one) for one in found], "count": count}


@router.post("/datasets", auth=OPERATORS, response={201: DatasetLooked, 200: DatasetLooked})
def dataset_upload(
    request: HttpRequest,
    response: HttpResponse,
    file: Annotated[UploadedFile | None, File()] = None,
    name: Annotated[str, Form(max_length=datasets.NAME_MOST)] = "",
    mapping: Annotated[str, Form(max_length=100_000)] = "",
) -> Any:
    """Upload a file of rows (JSONL, JSON, CSV, TSV, Parquet; plain or .gz) as multipart/form-data.

    `mapping` is a JSON object: file's column to ours. 200 when name and content are known already.
    """
    if upload_too_large(request):
        return problem(413, datasets.too_large_words())
    if file is None:
        raise FieldsError([Problem(path="file", message="send the file as multipart/form-data")])
    try:
        made = datasets.dataset_upload(
            owner=request.auth.user, file=file, name=name, mapping=_mapping_read(mapping)
        )
    except datasets.TooLarge as error:
        return problem(413, str(error))
    response["Location"] = f"{request.path}/{made.pk}"
    return (201 if made.created_now else 200), _looked(made)


@router.get("/datasets/{dataset_id}", response=DatasetLooked)
def dataset_read(request: HttpRequest, dataset_id: DatasetId) -> dict[str, Any]:
    """One dataset with its first rows."""
    return _looked(dataset_or_404(dataset_id))


@router.patch("/datasets/{dataset_id}", auth=OPERATORS, response=DatasetLooked)
def dataset_change(
    request: HttpRequest, dataset_id: DatasetId, payload: DatasetPatch
) -> dict[str, Any]:
    """Rename a dataset or its columns; the mapping replaces the one before."""
    dataset_id = _mine(request, dataset_id).pk
    changes = payload.model_dump(exclude_unset=True)
    caller = request.auth
    made = datasets.dataset_patch(
        dataset_id=dataset_id, user=caller.user, role=caller.role, **changes
    )
    return _looked(made)


@router.delete("/datasets/{dataset_id}", auth=OPERATORS, response={204: None})
def dataset_remove(request: HttpRequest, dataset_id: DatasetId) -> tuple[int, None]:
    """Delete a dataset; 409 while a run that has not ended uses it."""
    dataset_id = _mine(request, dataset_id).pk
    caller = request.auth
    try:
        datasets.dataset_delete(dataset_id=dataset_id, user=caller.user, role=caller.role)
    except ValueError as error:
        raise Conflict(str(error)) from error
    return 204, None


@router.get("/datasets/{dataset_id}/file", auth=VIEWERS_AND_NODES)
def dataset_download(request: HttpRequest, dataset_id: DatasetId) -> HttpResponse:
    """The file as it was uploaded; `Range` continues a broken download, `ETag` is its SHA-256."""
    dataset = dataset_or_404(dataset_id)
    if isinstance(request.auth, Node) and not node_reads_dataset(request.auth, dataset.pk):
        raise PermissionDenied("no run that this node holds names this dataset")
    path = dataset_path(dataset)
    if not path.is_file():
        raise Http404("the file of this dataset is not on this server")
    answer = file_answer(request, path, sha256=dataset.sha256)
    if "Content-Disposition" in answer:
        answer["Content-Disposition"] = content_disposition_header(True, dataset.filename)
    return answer


def dataset_or_404(dataset_id: str) -> Dataset:
    """The dataset with this id."""
    dataset = dataset_get(dataset_id)
    if dataset is None:
        raise Http404("there is no such dataset")
    return dataset


def _mine(request: HttpRequest, dataset_id: str) -> Dataset:
    dataset = dataset_or_404(dataset_id)
    if not datasets.may_change(dataset, request.auth.user, request.auth.role):
        raise AuthorizationError(message="only its owner or an admin may change a dataset")
    return dataset


def _looked(dataset: Dataset) -> dict[str, Any]:
    shape = dataset_shape(dataset)
    return shape | {"facts": dataset.facts, "preview": dataset.preview}


def _mapping_read(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        wrong = Problem(path="mapping", message=f"not JSON ({error})")
        raise FieldsError([wrong]) from error
    if not isinstance(found, dict):
        raise FieldsError(
            [Problem(path="mapping", message='an object such as {"question": "prompt"}')]
        )
    return found
