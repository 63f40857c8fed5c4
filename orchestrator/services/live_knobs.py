"""Steering a run while it works: knobs that may change, and what is to be done at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from orchestrator.models import ENDED, Run
from orchestrator.selectors.changes import REQUESTS, spec_with_overrides
from orchestrator.services.facts import event_add, run_change, run_owned
from orchestrator.services.hints import hint
from trainer.live import live_problem, value_at, with_knobs
from trainer.spec import Problem, SpecError

if TYPE_CHECKING:
    from orchestrator.models import User


def knobs_checked(run: Run, knobs: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """All live knobs of the run as they are to be stored, and `{path, old, new}` of each that moves.

    None takes a knob back to the spec's value. Raises SpecError for one that is not live or does not fit.
    """
    spec = spec_with_overrides(run)
    problems = [
        Problem(path=path, message=why) for path in knobs if (why := live_problem(spec, path))
    ]
    if problems:
        raise SpecError(problems)
    merged = {path: value for path, value in {**run.knobs, **knobs}.items() if value is not None}
    after = with_knobs(spec, merged)
    # As the spec reads it ("1e-4" is a number), and without what only repeats the spec.
    stored = {
        path: value_at(after, path)
        for path in merged
        if value_at(after, path) != value_at(spec, path)
    }
    before = with_knobs(spec, run.knobs)
    changes = [
        {"path": path, "old": value_at(before, path), "new": value_at(after, path)}
        for path in knobs
        if value_at(before, path) != value_at(after, path)
    ]
    return stored, changes


def knobs_change(run: Run, knobs: dict[str, Any], *, who: str) -> None:
    """Change live knobs of a locked run; its trainer applies them at its next step boundary."""
    if run.state in ENDED:
        raise ValueError(f"knobs: the run has ended ({run.state}); clone or fork it to change them")
    stored, changes = knobs_checked(run, knobs)
    if not changes:
        return
    run_change(run, who=who, knobs=stored)
    event_add(run, "knobs", knobs=knobs, changes=changes, by=who)
    hint("want", run=run.pk)


def run_request(*, run_id: str, user: User, what: str) -> Run:
    """Ask a run at work to "save" or to "evaluate" at its next step boundary.

    Raises ValueError at a wrong moment, or where there is nothing to evaluate on.
    """
    if what not in REQUESTS:
        raise ValueError(f"'{what}' is unknown; use {', '.join(REQUESTS)}")
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.state not in ("starting", "running"):
            raise ValueError(f"Only a run at work can be asked to {what}; this one is {run.state}.")
        if run.kind != "train":
            raise ValueError(f"An evaluation cannot be asked to {what}.")
        if what == "evaluate" and not run.spec.get("data", {}).get("eval"):
            raise ValueError("data.eval is empty: this run has no held-out rows to evaluate on.")
        run_change(run, who=user.get_username(), asks={**run.asks, what: run.asks.get(what, 0) + 1})
        event_add(run, "asked", what=what, by=user.get_username())
        hint("want", run=run.pk)
    return run
