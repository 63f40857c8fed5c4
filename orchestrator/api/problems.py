"""Every error of the API as RFC 9457 problem JSON, with field paths where a field is wrong."""

from __future__ import annotations

import json
import logging
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import DataError
from django.http import Http404, HttpResponse, HttpResponseNotAllowed
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from orchestrator.services.idempotency import KeyReused
from trainer.spec import Problem, SpecError, problems_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest

PROBLEM_TYPE = "application/problem+json"

log = logging.getLogger(__name__)


class Conflict(ValueError):
    """The state of things does not allow this now; the text says why."""


def problem(
    status: int, detail: str = "", errors: Iterable[Problem] = (), **headers: str
) -> HttpResponse:
    """An answer that says what went wrong."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if found := [{"path": error.path, "message": error.message} for error in errors]:
        body["errors"] = found
    text = json.dumps(body, ensure_ascii=False)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(text, status=status, content_type=PROBLEM_TYPE, headers=names)


class FieldsError(ValidationError):
    """A request whose fields are wrong; `problems` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__([item.model_dump() for item in problems])


class ProblemAPI(NinjaAPI):
    """A NinjaAPI whose errors are all problem JSON."""

    def validation_error_from_error_contexts(self, error_contexts: list[Any]) -> FieldsError:
        """Pydantic's complaints with the paths that the sender knows."""
        found: list[Problem] = []
        for context in error_contexts:
            for item in problems_of(context.pydantic_validation_error):
                found += _as_sent(item, body=context.model.__ninja_param_source__ == "body")
        return FieldsError(found)

    def _get_urls(self) -> list[Any]:
        patterns = super()._get_urls()
        for pattern in patterns:
            pattern.callback = _explained(pattern.callback)
        return list(patterns)


def _as_sent(item: Problem, *, body: bool) -> list[Problem]:
    """A problem without the name of our function's parameter; a spec's sentences one by one."""
    # A body's path begins with the parameter that takes it, which no sender knows.
    path = item.path.partition(".")[2] if body else item.path
    if path != "spec":
        return [Problem(path=path, message=item.message)]
    return [spec_problem(sentence) for sentence in item.message.splitlines()]


def spec_problem(sentence: str) -> Problem:
    """A sentence `field.path: what is wrong` about a spec as a problem of the body that holds it."""
    path, found, message = sentence.partition(": ")
    if found and " " not in path:
        return Problem(path=f"spec.{path}", message=message)
    return Problem(path="spec", message=sentence)


def _explained(view: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(view)
    def explained(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            response = view(request, *args, **kwargs)
        except Http404:
            return not_found(request)
        if isinstance(response, HttpResponseNotAllowed):
            detail = f"{request.method} is not possible here; use {response['Allow']}"
            return problem(405, detail, Allow=response["Allow"])
        return response

    return explained


def not_found(request: HttpRequest) -> HttpResponse:
    """Answer for paths under /api/ that do not exist."""
    return problem(404, f"there is nothing at {request.path[:200]}")


def problems_register(api: NinjaAPI) -> None:
    """Teach the API what each exception is answered with."""

    def http_error(request: HttpRequest, error: HttpError) -> HttpResponse:
        if error.status_code == 401:
            return problem(401, str(error), WWW_Authenticate='Bearer realm="anneal"')
        return problem(error.status_code, str(error))

    def fields(request: HttpRequest, error: ValidationError) -> HttpResponse:
        found = getattr(error, "problems", [])
        return problem(422, "some fields are not valid", found)

    def spec(request: HttpRequest, error: SpecError) -> HttpResponse:
        found = [_in_spec(item) for item in error.problems]
        return problem(422, "the spec cannot run", found)

    def unexpected(request: HttpRequest, error: Exception) -> HttpResponse:
        log.exception("%s %s", request.method, request.path)
        return problem(500, "something went wrong on the server; its log says more")

    api.exception_handler(HttpError)(http_error)
    api.exception_handler(ValidationError)(fields)
    api.exception_handler(SpecError)(spec)
    api.exception_handler(ValueError)(lambda request, error: problem(422, str(error)))
    api.exception_handler(Conflict)(lambda request, error: problem(409, str(error)))
    api.exception_handler(KeyReused)(lambda request, error: problem(409, str(error)))
    # NUL in a text, or a number that no column holds.
    api.exception_handler(DataError)(lambda request, error: problem(422, str(error).strip()))
    api.exception_handler(Http404)(lambda request, error: problem(404, str(error)))
    api.exception_handler(PermissionDenied)(lambda request, error: problem(403, str(error)))
    api.exception_handler(RequestDataTooBig)(lambda request, error: problem(413, str(error)))
    api.exception_handler(Exception)(unexpected)


def _in_spec(item: Problem) -> Problem:
    if item.path.startswith("policy"):
        return item
    path = f"spec.{item.path}" if item.path else "spec"
    return Problem(path=path, message=item.message)
