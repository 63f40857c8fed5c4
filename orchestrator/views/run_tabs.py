"""What each tab of a run's page shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.http import Http404

from orchestrator.models import ENDED, Event, State
from orchestrator.selectors.changes import steering
from orchestrator.selectors.events import events_list, log_tail
from orchestrator.selectors.policy_form import policy_fields
from orchestrator.selectors.post_mortem import (
    NoPostMortem,
    post_mortem_attempts,
    post_mortem_newest,
    post_mortem_read,
)
from orchestrator.selectors.post_mortem_text import TIPS, healthy_words, lost_words
from orchestrator.selectors.queue import queue_length
from orchestrator.selectors.run_seams import run_began, run_seams
from orchestrator.selectors.run_spec import run_spec
from orchestrator.selectors.run_words import chart_plan, chart_plans, spec_of
from orchestrator.selectors.run_work import work_of
from orchestrator.selectors.sample_groups import (
    GROUPS_PER_PAGE,
    groups_newest,
    groups_page,
    sample_steps,
)
from orchestrator.selectors.saved import saved_list
from orchestrator.selectors.series import series_keys
from orchestrator.selectors.truth import truth_read
from orchestrator.selectors.truth_words import HELP
from orchestrator.selectors.vital_signs import signs_of
from orchestrator.views.query import query_whole

if TYPE_CHECKING:
    from django.http import HttpRequest

    from orchestrator.models import Run

LOG_LINES, FEW_EVENTS = 1000, 12
EVENTS_PER_PAGE = 100


def overview(run: Run, request: HttpRequest) -> dict[str, Any]:
    """Is it learning, is it healthy, what does it say now."""
    spec = spec_of(run)
    mortem, work = post_mortem_newest(run), work_of(run)
    return {
        **(_mortem(run, mortem) if mortem else {}),
        "work": work,
        "plans": [] if work else chart_plans(spec),
        "signs": [] if work else signs_of(spec, run.latest),
        "seams": run_seams(run),
        "began": run_began(run),
        "groups": groups_newest(run=run),
        "events": events_list(run=run, per_page=FEW_EVENTS)[0],
        "queued": queue_length() if run.state == State.QUEUED else 0,
    }


def metrics(run: Run, request: HttpRequest) -> dict[str, Any]:
    """Every metric, by the part of its name before the first slash."""
    groups: dict[str, list[Any]] = {}
    for key in series_keys(run):
        groups.setdefault(key.partition("/")[0] if "/" in key else "general", []).append(
            chart_plan(key)
        )
    ordered = sorted(groups.items(), key=lambda group: (group[0] != "general", group[0]))
    asked = query_whole(request, "attempt")
    bad = post_mortem_attempts(run)
    mortem = post_mortem_read(run, asked or bad[-1]) if (asked or run.attempt) in bad else None
    return {
        "marks": _marks(mortem),
        "alone": asked,
        "groups": ordered,
        "seams": run_seams(run),
        "began": run_began(run),
        "waiting": run.state not in ENDED,
    }


def rollouts(run: Run, request: HttpRequest) -> dict[str, Any]:
    """Answers of one step, by prompt."""
    steps = sample_steps(run)
    asked, page = query_whole(request, "step"), query_whole(request, "page") or 1
    step = min(steps, key=lambda one: abs(one - asked)) if steps and asked is not None else None
    step = steps[-1] if step is None and steps else step
    if step is None:
        return {"steps": []}
    place = steps.index(step)
    groups, count = groups_page(run=run, step=step, page=page)
    return {
        "steps": steps,
        "step": step,
        "before": steps[place - 1] if place else None,
        "after": steps[place + 1] if place + 1 < len(steps) else None,
        "groups": groups,
        "count": count,
        "page": page,
        "more": page * GROUPS_PER_PAGE < count,
        "first": (page - 1) * GROUPS_PER_PAGE + 1,
        "last": (page - 1) * GROUPS_PER_PAGE + len(groups),
    }


def log(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What the trainer printed, newest last."""
    lines = log_tail(run=run, lines=LOG_LINES, before=query_whole(request, "before"))
    return {
        "lines": lines,
        "earlier": lines[0].pk if len(lines) == LOG_LINES else None,
        "past": query_whole(request, "before") is not None,
    }


def checkpoints(run: Run, request: HttpRequest) -> dict[str, Any]:
    """Saved weights with their figures."""
    return saved_list(run)


def spec(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What was asked, what ran, and the differences."""
    return run_spec(run, form="json" if request.GET.get("as") == "json" else "toml")


def steer(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What can be changed while it goes on, what was, and what becomes of it when it fails."""
    return {
        "steering": steering(run),
        "policy": policy_fields(run.policy),
        "max_restarts": run.max_restarts,
    }


def events(run: Run, request: HttpRequest) -> dict[str, Any]:
    """Everything that happened."""
    page = query_whole(request, "page") or 1
    if (asked := query_whole(request, "event")) is not None:
        page = _page_of(run, asked)
    found, count = events_list(run=run, page=page)
    return {"events": found, "count": count, "page": page, "more": page * EVENTS_PER_PAGE < count}


def truth(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What arrived of one attempt, and why the run is shown as it is."""
    asked = query_whole(request, "attempt")
    try:
        found = truth_read(run, asked)
    except ValueError as error:
        raise Http404(str(error)) from error
    settled = run.state in ENDED and run.complete
    return {"truth": found, "asked": asked, "help": HELP, "settled": settled}


def _page_of(run: Run, event_id: int) -> int:
    """The page of all events that shows this one; the first page when the run has no such event."""
    event = Event.objects.filter(run=run, pk=event_id).first()
    if event is None:
        return 1
    newer = Q(time__gt=event.time) | Q(time=event.time, pk__gt=event.pk)
    return Event.objects.filter(newer, run=run).count() // EVENTS_PER_PAGE + 1


def post_mortem(run: Run, request: HttpRequest) -> dict[str, Any]:
    """What happened to an attempt that ended badly, the newest unless one is asked for."""
    asked = query_whole(request, "attempt")
    try:
        found = post_mortem_read(run, asked)
    except NoPostMortem as error:
        return {"mortem": None, "none": str(error), "bad": post_mortem_attempts(run)}
    return {**_mortem(run, found), "full": True}


def post_mortem_card(run: Run) -> dict[str, Any]:
    """The card of the overview; `mortem` is None once the newest attempt is well."""
    found = post_mortem_newest(run)
    return _mortem(run, found) if found else {"mortem": None}


def _mortem(run: Run, found: dict[str, Any]) -> dict[str, Any]:
    signals = [found["first"], *found["signals"]] if found["first"] else []
    last = found["log"][-1]["id"] if found["log"] else None
    return {
        # Lines are asked for by the first one that is shown already.
        "mortem": {**found, "all": signals, "log_last": last and last + 1},
        "bad": sorted([*found["others"], found["attempt"]]),
        "healthy_words": healthy_words(found["healthy"]),
        "lost_words": lost_words(found["healthy"], found["state"]),
        "tips": TIPS,
        "marks": _marks(found),
        "tone": "lost" if found["cause"] == "node-lost" else _TONES[found["state"]],
        "settled": run.complete and run.state in ENDED,
    }


_TONES = {"ended": "failed", "lost": "lost", "stalled": "paused"}


def _marks(found: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The first bad signal as a line across the charts, in the form of a seam."""
    first = found["first"] if found else None
    if first is None or first["step"] is None:
        return []
    return [
        {
            "step": first["step"],
            "time": first["time"].timestamp(),
            "label": "first bad signal",
            "text": f"{first['title']}. {first['text']}",
            "kind": "signal",
        }
    ]


TABS = {
    "overview": ("Overview", overview),
    "metrics": ("Metrics", metrics),
    "rollouts": ("Rollouts", rollouts),
    "steer": ("Steer", steer),
    "log": ("Log", log),
    "checkpoints": ("Checkpoints", checkpoints),
    "spec": ("Spec", spec),
    "events": ("Events", events),
    "post-mortem": ("Post-mortem", post_mortem),
    "truth": ("Truth", truth),
}
