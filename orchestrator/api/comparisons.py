"""Comparisons: make, look, steer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.http import Http404, HttpRequest, HttpResponse
from ninja import File, Form, Query, Router
from ninja.errors import AuthorizationError
from ninja.files import UploadedFile

from orchestrator.api.access import OPERATORS
from orchestrator.api.comparison_shapes import (
    ComparisonCreate,
    ComparisonOut,
    ComparisonPatch,
    EvaluationSetAdd,
    EvidenceOut,
    PairOut,
    RegressionOut,
)
from orchestrator.api.datasets import DatasetOut
from orchestrator.api.problems import Conflict, FieldsError, problem
from orchestrator.api.runs import Key
from orchestrator.api.shapes import Listed
from orchestrator.selectors.comparison_evidence import Unit, comparison_evidence
from orchestrator.selectors.comparison_pairs import Show, pairs_page, view_of
from orchestrator.selectors.comparison_regressions import regressions_page
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparisons import (
    comparison_get,
    comparison_shape,
    comparisons_list,
)
from orchestrator.selectors.datasets import dataset_shape
from orchestrator.services import comparisons, datasets, evaluation_sets
from orchestrator.services.comparison_import import comparison_import
from orchestrator.services.comparison_orders import NAME_MOST
from orchestrator.services.idempotency import once_named, request_digest
from orchestrator.uploads import upload_too_large
from trainer.spec import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import Comparison

router = Router(tags=["comparisons"])

Text = Annotated[str, Query(max_length=200)]
Page = Annotated[int, Query(ge=1, le=1_000_000)]


@router.post("/comparisons", auth=OPERATORS, response={201: ComparisonOut})
def comparison_create(
    request: HttpRequest,
    payload: ComparisonCreate,
    response: HttpResponse,
    idempotency_key: Key = None,
) -> tuple[int, dict[str, Any]]:
    """Compare 2 to 6 models: missing answers are made by evaluation runs, those that are there are used."""
    fields = payload.model_dump(mode="json")
    fields["prompts"] = [one.model_dump(mode="json") for one in payload.prompts]
    user = request.auth.user

    def make(comparison_id: str | None) -> Comparison:
        return comparisons.comparison_create(owner=user, comparison_id=comparison_id, **fields)

    digest = request_digest(request.method, request.path, request.body)
    made = _told(
        lambda: once_named(
            user=user, key=idempotency_key, request=digest, find=comparison_get, make=make
        )
    )
    response["Location"] = f"{request.path}/{made.pk}"
    return 201, comparison_shape(comparison_or_404(made.pk))


@router.post("/comparisons/import", auth=OPERATORS, response={201: ComparisonOut})
def comparison_upload(
    request: HttpRequest,
    response: HttpResponse,
    file: Annotated[UploadedFile | None, File()] = None,
    name: Annotated[str, Form(max_length=NAME_MOST)] = "",
) -> Any:
    """Compare what was answered elsewhere, from a file sent as multipart/form-data.

    One row a question: {"question", "ground_truth", MODEL: {"is_correct", "solution"}, ...}; or one row an answer:
    {"prompt", "arm", "text", "scores": {NAME: number}, "index"}.
    """
    if upload_too_large(request):
        return problem(413, datasets.too_large_words())
    if file is None:
        raise FieldsError([Problem(path="file", message="send the file as multipart/form-data")])
    try:
        made = comparison_import(owner=request.auth.user, file=file, name=name)
    except datasets.TooLarge as error:
        return problem(413, str(error))
    except ValueError as error:
        raise FieldsError([Problem(path="file", message=str(error))]) from error
    response["Location"] = f"/api/comparisons/{made.pk}"
    return 201, comparison_shape(comparison_or_404(made.pk))


@router.get("/comparisons", response=Listed[ComparisonOut])
def comparison_list(
    request: HttpRequest,
    q: Text = "",
    checkpoint: Annotated[str, Query(max_length=12)] = "",
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 50,
) -> dict[str, Any]:
    """Comparisons, newest first; `q` finds words of name, owner or arm, `checkpoint` those that compare it."""
    found, count = comparisons_list(
        q=q, checkpoint=checkpoint.replace("\x00", ""), page=page, per_page=per_page
    )
    return {"items": [comparison_shape(one) for one in found], "count": count}


@router.get("/comparisons/{comparison_id}", response=ComparisonOut)
def comparison_read(request: HttpRequest, comparison_id: str) -> dict[str, Any]:
    """One comparison, with its state and how many answers are there."""
    return comparison_shape(comparison_or_404(comparison_id))


@router.patch("/comparisons/{comparison_id}", auth=OPERATORS, response=ComparisonOut)
def comparison_change(
    request: HttpRequest, comparison_id: str, payload: ComparisonPatch
) -> dict[str, Any]:
    """Rename a comparison, or write a note to it."""
    mine_or_refused(request, comparison_id)
    comparisons.comparison_patch(
        comparison_id=comparison_id,
        user=request.auth.user,
        role=request.auth.role,
        changes=payload.model_dump(exclude_unset=True),
    )
    return comparison_shape(comparison_or_404(comparison_id))


@router.delete("/comparisons/{comparison_id}", auth=OPERATORS, response={204: None})
def comparison_remove(request: HttpRequest, comparison_id: str) -> tuple[int, None]:
    """Delete a comparison with its votes; its runs are stopped, answers stay for other comparisons."""
    mine_or_refused(request, comparison_id)
    comparisons.comparison_delete(
        comparison_id=comparison_id, user=request.auth.user, role=request.auth.role
    )
    return 204, None


@router.post("/comparisons/{comparison_id}/stop", auth=OPERATORS, response=ComparisonOut)
def comparison_stop(request: HttpRequest, comparison_id: str) -> dict[str, Any]:
    """Stop what works on it; answers that are there stay. 409 when nothing does."""
    return _steer(request, comparison_id, comparisons.comparison_stop)


@router.post("/comparisons/{comparison_id}/resume", auth=OPERATORS, response=ComparisonOut)
def comparison_resume(request: HttpRequest, comparison_id: str) -> dict[str, Any]:
    """Launch again what is missing and nothing works on; asked twice, nothing is launched twice."""
    return _steer(request, comparison_id, comparisons.comparison_resume)


@router.post("/comparisons/{comparison_id}/read", auth=OPERATORS, response=ComparisonOut)
def comparison_read_on(request: HttpRequest, comparison_id: str) -> dict[str, Any]:
    """Let the models read each other's answers, token by token: needs equal vocabularies, else 409 says so."""
    return _steer(request, comparison_id, comparisons.comparison_read_on)


@router.get("/comparisons/{comparison_id}/pairs", response=Listed[PairOut])
def comparison_pairs(
    request: HttpRequest,
    comparison_id: str,
    scorer: Text = "",
    a: Text = "",
    b: Text = "",
    show: Show = "all",
    q: Text = "",
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 20,
) -> dict[str, Any]:
    """Prompts with the answers and scores of all arms; filters speak of arms `a` (the baseline) and `b`."""
    comparison = comparison_or_404(comparison_id)
    sheet = sheet_of(comparison)
    view = view_of(comparison, sheet, scorer=scorer, a=a, b=b, show=show, q=q)
    found, count = pairs_page(comparison, sheet=sheet, view=view, page=page, per_page=per_page)
    return {"items": found, "count": count}


@router.get("/comparisons/{comparison_id}/regressions", response=Listed[RegressionOut])
def comparison_regressions(
    request: HttpRequest,
    comparison_id: str,
    scorer: Text = "",
    a: Text = "",
    b: Text = "",
    page: Page = 1,
    per_page: Annotated[int, Query(ge=1, le=100)] = 50,
) -> dict[str, Any]:
    """Prompts on which arm `b` is worse than `a`, the surest first."""
    comparison = comparison_or_404(comparison_id)
    sheet = sheet_of(comparison)
    view = view_of(comparison, sheet, scorer=scorer, a=a, b=b)
    found, count = regressions_page(comparison, sheet, view, page=page, per_page=per_page)
    return {"items": found, "count": count}


@router.get("/comparisons/{comparison_id}/evidence", response=EvidenceOut)
def comparison_findings(
    request: HttpRequest,
    comparison_id: str,
    scorer: Text = "",
    baseline: Text = "",
    unit: Unit = "arms",
) -> dict[str, Any]:
    """Paired statistics of one scorer: every pair of arms, or all against `baseline`, without failed items."""
    comparison = comparison_or_404(comparison_id)
    return comparison_evidence(comparison, scorer=scorer, baseline=baseline, unit=unit)


@router.post(
    "/comparisons/{comparison_id}/evaluation-set", auth=OPERATORS, response={201: DatasetOut}
)
def comparison_keep(
    request: HttpRequest, comparison_id: str, payload: EvaluationSetAdd
) -> tuple[int, dict[str, Any]]:
    """Make a dataset of some prompts, or a new version of one, with where they come from in each row."""
    comparison = comparison_or_404(comparison_id)
    made = evaluation_sets.evaluation_set_add(
        comparison=comparison,
        user=request.auth.user,
        numbers=payload.items,
        name=payload.name,
        dataset_id=payload.dataset,
    )
    return 201, dataset_shape(made)


def comparison_or_404(comparison_id: str) -> Comparison:
    """The comparison with this id."""
    comparison = comparison_get(comparison_id)
    if comparison is None:
        raise Http404("there is no such comparison")
    return comparison


def mine_or_refused(request: HttpRequest, comparison_id: str) -> Comparison:
    """The comparison, when the caller may change it: its owner or an admin."""
    comparison = comparison_or_404(comparison_id)
    if not comparisons.may_change(comparison, request.auth.user, request.auth.role):
        raise AuthorizationError(message="only its owner or an admin may change a comparison")
    return comparison


def _steer(
    request: HttpRequest, comparison_id: str, verb: Callable[..., Comparison]
) -> dict[str, Any]:
    mine_or_refused(request, comparison_id)
    try:
        _told(
            lambda: verb(
                comparison_id=comparison_id, user=request.auth.user, role=request.auth.role
            )
        )
    except FieldsError:
        raise
    except ValueError as error:
        raise Conflict(str(error)) from error
    return comparison_shape(comparison_or_404(comparison_id))


def _told(make: Callable[[], Comparison]) -> Comparison:
    """What is made; an order's faulty fields under the names that the caller knows."""
    try:
        return make()
    except SpecError as error:
        raise FieldsError(error.problems) from error
