"""Judges of a comparison: models that say which of two answers is better."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from django.http import Http404, HttpRequest
from ninja import Path, Router

from orchestrator.api.access import OPERATORS
from orchestrator.api.comparisons import comparison_or_404, mine_or_refused
from orchestrator.api.judge_shapes import JudgeAdd, JudgeAsk, JudgeOut
from orchestrator.api.problems import Conflict, FieldsError
from orchestrator.api.shapes import Listed
from orchestrator.selectors.judge_figures import judges_shape
from orchestrator.services import judges
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

router = Router(tags=["comparisons"])

Digest = Annotated[str, Path(max_length=64)]


@router.post("/comparisons/{comparison_id}/judges", auth=OPERATORS, response={201: JudgeOut})
def judge_add(
    request: HttpRequest, comparison_id: str, payload: JudgeAdd
) -> tuple[int, dict[str, Any]]:
    """Let a model compare answers, once they are there; what it has judged before is not asked again."""
    mine_or_refused(request, comparison_id)
    knobs = payload.model_dump(mode="json")
    left, right = knobs.pop("left"), knobs.pop("right")
    made = _told(
        lambda: judges.judge_add(comparison_id=comparison_id, knobs=knobs, left=left, right=right)
    )
    return 201, _shape(comparison_id, made.digest)


@router.get("/comparisons/{comparison_id}/judges", response=Listed[JudgeOut])
def judge_list(request: HttpRequest, comparison_id: str) -> dict[str, Any]:
    """Its judges with state, how many pairs are wanted, judged and failed, and what the verdicts say."""
    found = judges_shape(comparison_or_404(comparison_id))
    return {"items": found, "count": len(found)}


@router.post("/comparisons/{comparison_id}/judges/{digest}/ask", auth=OPERATORS, response=JudgeOut)
def judge_ask(
    request: HttpRequest, comparison_id: str, digest: Digest, payload: JudgeAsk
) -> dict[str, Any]:
    """Ask what is missing, and with `failed` what came to nothing once more. 409 when there is nothing to ask."""
    mine_or_refused(request, comparison_id)
    _told(
        lambda: judges.judge_ask(comparison_id=comparison_id, digest=digest, failed=payload.failed)
    )
    return _shape(comparison_id, digest)


@router.delete("/comparisons/{comparison_id}/judges/{digest}", auth=OPERATORS, response={204: None})
def judge_remove(request: HttpRequest, comparison_id: str, digest: Digest) -> tuple[int, None]:
    """Take a judge out of the comparison with all that it said; its runs are stopped."""
    mine_or_refused(request, comparison_id)
    _told(
        lambda: judges.judge_remove(
            comparison_id=comparison_id, digest=digest, user=request.auth.user
        )
    )
    return 204, None


def _shape(comparison_id: str, digest: str) -> dict[str, Any]:
    found = judges_shape(comparison_or_404(comparison_id))
    return next((one for one in found if one["digest"] == digest), found[-1])


def _told(make: Callable[[], Any]) -> Any:
    """What is made; faulty fields under the names that the caller knows."""
    try:
        return make()
    except SpecError as error:
        raise FieldsError(error.problems) from error
    except KeyError as error:
        raise Http404("there is no such judge here") from error
    except ValueError as error:
        raise Conflict(str(error)) from error
