"""Playgrounds: open one, and ask its models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import Http404
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from orchestrator.models import Role
from orchestrator.models.ids import new_id
from orchestrator.selectors import spec_choices
from orchestrator.selectors.playgrounds import (
    playground_get,
    playground_shape,
    playgrounds_list,
    questions_of,
)
from orchestrator.services import playgrounds
from orchestrator.services.idempotency import once, request_digest
from orchestrator.views.compare import page_wanted
from orchestrator.views.query import query_text
from trainer.play import MOST, PROMPT_MOST, Question
from trainer.spec import SpecError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

PER_PAGE = 25
TYPED_MOST = 500
SHOWN = 100
"""Questions that a page begins with."""
LABELS = ("A", "B", "Base")
KNOBS = ("temperature", "max_new_tokens", "samples", "top_p", "top_k", "min_p", "seed")
MARKS = [
    {"weight": weight, "words": f"{weight}".replace("-", "\N{MINUS SIGN}")}
    for weight in range(-1, 4)
]
"""Of the slider."""


@require_http_methods(["GET", "HEAD", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """The playgrounds, and the form that opens one; a POST opens it."""
    if request.method != "POST":
        named = [one for one in query_text(request, "with").split(",") if one.strip()]
        return _page(request, named, {})
    if not request.user.has_role(Role.OPERATOR):
        raise PermissionDenied("Your role is viewer: an operator or an admin opens playgrounds.")
    typed = [
        request.POST.get(f"model-{place}", "").replace("\x00", "").strip()[:TYPED_MOST]
        for place in range(MOST)
    ]
    minutes = request.POST.get("idle_minutes", "").strip()
    wrong: dict[str, list[str]] = {}
    try:
        idle = float(minutes) if minutes else None
    except ValueError:
        idle = None
        wrong["idle_minutes"] = [f"'{minutes[:40]}' is not a number"]
    if not wrong:
        try:
            # Sent twice, it is the same one; mended and sent again, it is another.
            digest = request_digest("POST", request.path, repr((typed, idle)).encode())
            run = once(
                user=request.user,
                key=f"play:{request.POST.get('_key', '')[:64] or new_id()}:{digest[:32]}",
                request=digest,
                make=lambda: playgrounds.playground_open(
                    owner=request.user, models=typed, idle_minutes=idle
                ),
            )
            return redirect("playground", run.pk)
        except SpecError as error:
            for one in playgrounds.problems_named(error):
                path = one.path if one.path in {"idle_minutes", *_fields()} else "models"
                wrong.setdefault(path, []).append(one.message)
    return _page(request, typed, wrong, minutes, status=422)


@require_GET
def one(request: HttpRequest, playground_id: str) -> HttpResponse:
    """One playground: a prompt box, a slider, and what its models said."""
    run = playground_get(playground_id)
    if run is None:
        raise Http404("there is no such playground")
    shape = playground_shape(run)
    context = {
        "run": run,
        "shape": shape,
        "questions": questions_of(run, limit=SHOWN),
        "knobs": _knobs(),
        "marks": MARKS,
        "prompt_most": PROMPT_MOST,
        "has_base": len(shape["models"]) == MOST,
        "may_ask": _may_ask(request, run),
        "may_launch": request.user.has_role(Role.OPERATOR),
        "again": ",".join(model["name"] for model in shape["models"]),
    }
    return render(request, "play/one.html", context)


def _knobs() -> list[dict[str, Any]]:
    """How answers are drawn, with what each field does."""
    fields = Question.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "value": fields[name]["default"],
            "help": fields[name].get("description", ""),
        }
        for name in KNOBS
    ]


def _fields() -> set[str]:
    return {f"models.{place}" for place in range(MOST)}


def _may_ask(request: HttpRequest, run: Any) -> bool:
    if not request.user.has_role(Role.OPERATOR):
        return False
    return bool(run.owner_id == request.user.pk or request.user.has_role(Role.ADMIN))


def _page(
    request: HttpRequest,
    typed: list[str],
    wrong: dict[str, list[str]],
    minutes: str = "",
    status: int = 200,
) -> HttpResponse:
    wanted = page_wanted(request)
    found, count = playgrounds_list(page=wanted, per_page=PER_PAGE)
    models = spec_choices.model_choices()
    names = {one.value: one.label for some in models.values() for one in some}
    places = [
        {
            "label": label,
            "value": typed[place] if place < len(typed) else "",
            "problems": wrong.get(f"models.{place}", []),
        }
        for place, label in enumerate(LABELS)
    ]
    context = {
        "places": places,
        "model_names": names,
        "models": models,
        "wrong": wrong,
        "minutes": minutes,
        "key": request.POST.get("_key", "")[:64] or new_id(),
        "rows": [playground_shape(run) for run in found],
        "count": count,
        "pages": Paginator(range(count), PER_PAGE).get_page(wanted),
        "may_launch": request.user.has_role(Role.OPERATOR),
    }
    return render(request, "play/page.html", context, status=status)
