"""The page of one run, and what can be asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from orchestrator.models import ENDED, Role, Run, State
from orchestrator.selectors.post_mortem import post_mortem_attempts
from orchestrator.selectors.promotion_form import promotion_form
from orchestrator.selectors.promotion_line import promotion_line
from orchestrator.selectors.removals import is_being_deleted, was_deleted
from orchestrator.selectors.reward_models import is_scoring
from orchestrator.selectors.run_advice import advice, cause_words, deadlines
from orchestrator.selectors.run_words import method_chips, spec_of
from orchestrator.selectors.run_work import HIDDEN
from orchestrator.selectors.runs import run_shape
from orchestrator.selectors.stalls import stall_shape
from orchestrator.services import live_knobs, shelf
from orchestrator.services import runs as services
from orchestrator.views import run_tabs

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

    from orchestrator.models import User

OVER = frozenset(ENDED)
AT_WORK = frozenset({State.STARTING, State.RUNNING})


@dataclass(frozen=True)
class Action:
    """Something that can be asked of a run by a button."""

    service: Callable[..., Any]
    words: str
    icon: str
    states: frozenset[str]
    """In which it makes sense."""
    told: str
    """What is said once it was asked."""
    confirm: str = ""
    where: str = "head"
    """"head" of the page, or the tab that has the button."""


ACTIONS = {
    "pause": Action(
        services.run_pause,
        "Pause",
        "pause",
        frozenset({State.QUEUED, State.STARTING, State.RUNNING}),
        "It saves a checkpoint at the next step, then frees its slot.",
    ),
    "resume": Action(
        services.run_resume,
        "Resume",
        "play",
        frozenset({State.PAUSED}),
        "It is back in the queue and continues from its checkpoint.",
    ),
    "retry": Action(
        services.run_retry,
        "Retry",
        "retry",
        frozenset({State.FAILED, State.STOPPED}),
        "It is back in the queue and continues from its newest checkpoint.",
    ),
    "stop": Action(
        services.run_stop,
        "Stop and save",
        "stop",
        frozenset(set(State) - OVER - {State.STOPPING, State.DRAFT}),
        "It saves a checkpoint at the next step, then stops.",
        "Stop this run? It saves a checkpoint first, so nothing learned is lost.",
    ),
    "archive": Action(
        shelf.run_archive, "Archive", "archive", OVER, "Archived: lists leave it out from now on."
    ),
    "unarchive": Action(
        shelf.run_unarchive, "Unarchive", "archive", OVER, "It is back in the lists."
    ),
    "delete": Action(
        shelf.run_delete,
        "Delete",
        "trash",
        OVER,
        "",
        "Delete this run for good? Its curves, answers, log and checkpoints go with it, here and on its "
        "nodes. This cannot be undone.",
    ),
    "save": Action(
        partial(live_knobs.run_request, what="save"),
        "Save now",
        "checkpoints",
        AT_WORK,
        "It saves a checkpoint at the next step.",
        where="steer",
    ),
    "evaluate": Action(
        partial(live_knobs.run_request, what="evaluate"),
        "Evaluate now",
        "check",
        AT_WORK,
        "It evaluates at the next step.",
        where="steer",
    ),
}


@require_GET
def page(request: HttpRequest, run_id: str, tab: str = "overview") -> HttpResponse:
    """One tab of the page."""
    if tab not in run_tabs.TABS:
        raise Http404("a run has no such tab")
    run = get_object_or_404(Run.objects.select_related("owner", "node", "waits_for"), pk=run_id)
    return _render(request, run, tab)


def page_again(request: HttpRequest, run: Run, tab: str, **more: Any) -> HttpResponse:
    """A tab whose form was refused, with what was typed."""
    return _render(request, run, tab, status=422, **more)


def _render(
    request: HttpRequest, run: Run, tab: str, status: int = 200, **more: Any
) -> HttpResponse:
    title, content = run_tabs.TABS[tab]
    leaving = is_being_deleted(run.pk)
    actions = [] if leaving else _actions(run, request.user)
    context = {
        "run": run,
        "shape": run_shape(run),
        "chips": method_chips(spec_of(run)),
        "advice": advice(run),
        "cause": cause_words(run),
        "ended": run.state in ENDED,
        "leaving": leaving,
        "may_launch": request.user.has_role(Role.OPERATOR) and not leaving,
        "may_change": may_change(request.user, run) and not leaving,
        "actions": [action for action in actions if action["where"] == "head"],
        "requests": [action for action in actions if action["where"] == "steer"],
        "deadlines": deadlines(run),
        "promotion": promotion_line(run),
        "stall": stall_shape(run),
        "tab": tab,
        "tab_title": title,
        "tabs": _tabs(run, tab),
    }
    if tab == "steer":
        context |= promotion_form(run, more.get("typed", {}))
        context["promotable"] = run.kind == "train" and not is_scoring(run.spec)
    return render(request, f"run/{tab}.html", context | content(run, request) | more, status=status)


def _tabs(run: Run, shown: str) -> list[tuple[str, str]]:
    """Address and name of each tab; a post-mortem is offered where there is one."""
    offered = {name: words for name, (words, _) in run_tabs.TABS.items()}
    if shown != "post-mortem" and not post_mortem_attempts(run):
        del offered["post-mortem"]
    hidden = HIDDEN.get(run.kind, set()) - {shown}
    return [(name, words) for name, words in offered.items() if name not in hidden]


@require_POST
def act(request: HttpRequest, run_id: str, verb: str) -> HttpResponse:
    """Stop, pause, resume, retry, archive, delete, save or evaluate."""
    if verb not in ACTIONS:
        raise Http404("nothing is called that")
    try:
        if verb == "delete" and not Run.objects.filter(pk=run_id).exists() and was_deleted(run_id):
            # Asked a second time, by another tab or an impatient click.
            return redirect("runs")
        run_ask(get_object_or_404(Run, pk=run_id), verb, request.user)
    except ValueError as problem:
        messages.error(request, str(problem))
        return redirect("run", run_id=run_id)
    if verb == "delete":
        return redirect("runs")
    messages.success(request, ACTIONS[verb].told)
    if ACTIONS[verb].where == "steer":
        return redirect("run-tab", run_id=run_id, tab="steer")
    return redirect("run", run_id=run_id)


def run_ask(run: Run, verb: str, user: Any) -> Any:
    """Ask it of one run. Raises PermissionDenied, or ValueError at a wrong moment."""
    if not may_change(user, run):
        raise PermissionDenied("Only the owner of a run and admins change it.")
    return ACTIONS[verb].service(run_id=run.pk, user=user)


def may_change(user: User | Any, run: Run) -> bool:
    """Whether this person may steer this run: its owner while an operator, or an admin."""
    if user.has_role(Role.ADMIN):
        return True
    return bool(user.has_role(Role.OPERATOR) and run.owner_id == user.pk)


def _actions(run: Run, user: Any) -> list[dict[str, Any]]:
    if not may_change(user, run):
        return []
    wrong = "archive" if run.archived else "unarchive"
    return [
        {
            "verb": verb,
            "words": "Cancel" if verb == "stop" and run.state == State.QUEUED else action.words,
            "icon": action.icon,
            "when": " ".join(sorted(action.states)),
            "now": run.state in action.states,
            "confirm": action.confirm,
            "where": action.where,
            "harsh": verb in ("stop", "delete"),
        }
        for verb, action in ACTIONS.items()
        if verb != wrong
    ]
