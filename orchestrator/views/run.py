"""The page of one run, and what can be asked of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import ENDED, Role, Run, State
from orchestrator.selectors.run_advice import advice, cause_words
from orchestrator.selectors.run_words import method_chips, spec_of
from orchestrator.selectors.runs import run_shape
from orchestrator.services import runs as services
from orchestrator.views import run_tabs

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import User

ACTIONS: dict[str, tuple[str, str, str, frozenset[str]]] = {
    "pause": ("run_pause", "Pause", "pause", frozenset({State.RUNNING})),
    "resume": ("run_resume", "Resume", "play", frozenset({State.PAUSED})),
    "retry": ("run_retry", "Retry", "retry", frozenset({State.FAILED, State.STOPPED})),
    "stop": (
        "run_stop",
        "Stop and save",
        "stop",
        frozenset(set(State) - ENDED - {State.STOPPING, State.DRAFT}),
    ),
}
"""Verb -> service, words on the button, icon, and the states in which it makes sense."""

TOLD = {
    "stop": "It saves a checkpoint at the next step, then stops.",
    "pause": "It saves a checkpoint at the next step, then frees its slot.",
    "resume": "It is back in the queue and continues from its checkpoint.",
    "retry": "It is back in the queue and continues from its newest checkpoint.",
}


@require_GET
def page(request: HttpRequest, run_id: str, tab: str = "overview") -> HttpResponse:
    """One tab of the page."""
    if tab not in run_tabs.TABS:
        raise Http404("a run has no such tab")
    run = get_object_or_404(Run.objects.select_related("owner", "node", "waits_for"), pk=run_id)
    title, content = run_tabs.TABS[tab]
    context = {
        "run": run,
        "shape": run_shape(run),
        "chips": method_chips(spec_of(run)),
        "advice": advice(run),
        "cause": cause_words(run),
        "ended": run.state in ENDED,
        "may_launch": request.user.has_role(Role.OPERATOR),
        "actions": _actions(run, request.user),
        "may_change": may_change(request.user, run),
        "tab": tab,
        "tab_title": title,
        "tabs": [(name, words) for name, (words, _) in run_tabs.TABS.items()],
    }
    return render(request, f"run/{tab}.html", context | content(run, request))


@require_POST
def act(request: HttpRequest, run_id: str, verb: str) -> HttpResponse:
    """Stop, pause, resume or retry."""
    if verb not in ACTIONS:
        raise Http404("nothing is called that")
    try:
        run_ask(get_object_or_404(Run, pk=run_id), verb, request.user)
        messages.success(request, TOLD[verb])
    except ValueError as problem:
        messages.error(request, str(problem))
    return redirect("run", run_id=run_id)


def run_ask(run: Run, verb: str, user: Any) -> None:
    """Ask it of one run. Raises PermissionDenied, or ValueError at a wrong moment."""
    if not may_change(user, run):
        raise PermissionDenied("Only the owner of a run and admins change it.")
    service: Callable[..., Run] = getattr(services, ACTIONS[verb][0])
    service(run_id=run.pk, user=user)


def may_change(user: User | Any, run: Run) -> bool:
    """Whether this person may steer this run: its owner while an operator, or an admin."""
    if user.has_role(Role.ADMIN):
        return True
    return bool(user.has_role(Role.OPERATOR) and run.owner_id == user.pk)


def _actions(run: Run, user: Any) -> list[dict[str, Any]]:
    if not may_change(user, run):
        return []
    return [
        {
            "verb": verb,
            "words": "Cancel" if verb == "stop" and run.state == State.QUEUED else words,
            "icon": icon,
            "when": " ".join(sorted(states)),
            "now": run.state in states,
        }
        for verb, (_, words, icon, states) in ACTIONS.items()
    ]
