"""Runs: create, stop, pause, resume, retry, change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from orchestrator.models import Checkpoint, Dataset, Desired, Process, Run, State
from orchestrator.selectors.externals import external_named, models_of
from orchestrator.selectors.inputs import data_sources
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.selectors.reward_models import reward_model_problem
from orchestrator.services.dispatch import schedule_soon
from orchestrator.services.externals import external_problem
from orchestrator.services.facts import event_add, run_change, run_owned
from orchestrator.services.hints import hint
from orchestrator.services.live_knobs import knobs_change
from orchestrator.services.promotion_rules import after_checked
from orchestrator.services.release import runs_release_local
from orchestrator.services.restarts import policy_checked
from trainer import registry
from trainer.spec import (
    CHECKPOINT_PREFIX,
    EXTERNAL_PREFIX,
    RUN_PREFIX,
    Problem,
    SpecError,
    spec_parse,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import User

__all__ = [
    "run_create",
    "run_patch",
    "run_pause",
    "run_resume",
    "run_retry",
    "run_stop",
    "runs_release_local",
]

HELD = (Process.CLAIMED, Process.ALIVE)
WAITING = (Process.NONE, Process.DISPATCHED)
DATASET_ID = re.compile(r"[a-z2-7]{12}")
PATCHABLE = frozenset(
    {
        "name",
        "tags",
        "notes",
        "priority",
        "preemptible",
        "max_restarts",
        "policy",
        "knobs",
        "promotion",
    }
)
PLACED_BY = frozenset({"priority", "preemptible"})
"""What changes the plan."""


def run_create(
    *,
    owner: User,
    spec: dict[str, Any],
    name: str = "",
    tags: Iterable[str] = (),
    priority: int = 0,
    preemptible: bool = False,
    max_restarts: int = 3,
    policy: dict[str, Any] | None = None,
    promotion: dict[str, Any] | None = None,
    recipe: str = "",
    parent: Checkpoint | None = None,
) -> Run:
    """Queue a run; `parent` is the checkpoint that it was forked from, `promotion` a `PromotionAfter`.

    Raises SpecError when the spec, the policy or the promotion rule cannot run or names what is not there.
    """
    rules = policy_checked(policy or {})
    parsed = spec_parse(spec)
    stored = parsed.model_dump(mode="json")
    _mappings_apply(stored)
    waits_for = _named_things_exist(stored)
    rule = after_checked(promotion, stored)
    tag = getattr(parsed.objective, "type", parsed.kind)
    with transaction.atomic():
        run = Run.objects.create(
            name=(name or parsed.name or (tag if parsed.kind == "train" else parsed.kind))[:120],
            kind=parsed.kind,
            owner=owner,
            tags=sorted({tag.strip() for tag in tags if tag.strip()}),
            spec=stored,
            recipe=recipe,
            waits_for=waits_for,
            priority=priority,
            preemptible=preemptible,
            max_restarts=max_restarts,
            policy=rules,
            promotion=rule,
            parent=parent.run if parent else None,
            parent_step=parent.step if parent else None,
            parent_name=parent.run.name if parent else "",
            total_steps=parsed.budget.max_steps,
            state=State.QUEUED,
            reason="Waits to be placed.",
        )
        event_add(run, "status", state="queued", reason="launched", by=owner.get_username())
        hint("run", run=run.pk)
        transaction.on_commit(schedule_soon)
    return run


def run_stop(*, run_id: str, user: User, message: str = "") -> Run:
    """Stop a run for good; a trainer at work saves a checkpoint first."""
    who = user.get_username()
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.state in (State.STOPPED, State.FINISHED, State.FAILED):
            raise ValueError(f"The run has ended already ({run.state}).")
        facts = _asked(Desired.STOP, who, f"Stopped by {who}", message)
        if run.process not in HELD:
            facts |= {"process": Process.NONE, "cause": "user"}
        run_change(run, who=who, **facts)
        hint("want", run=run.pk)
    return run


def run_pause(*, run_id: str, user: User, message: str = "") -> Run:
    """Save a checkpoint and free the slot until somebody resumes the run."""
    who = user.get_username()
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.state not in (State.QUEUED, State.STARTING, State.RUNNING, State.LOST):
            raise ValueError(
                f"Only a run that waits or works can be paused; this one is {run.state}."
            )
        facts = _asked(Desired.PAUSE, who, f"Paused by {who}", message)
        if run.process in WAITING:
            facts |= {"process": Process.NONE, "cause": "paused"}
        run_change(run, who=who, **facts)
        hint("want", run=run.pk)
    return run


def run_resume(*, run_id: str, user: User) -> Run:
    """Let a paused run go on, on any node that fits."""
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.state not in (State.PAUSED, State.PAUSING):
            raise ValueError(f"Only a paused run can be resumed; this one is {run.state}.")
        _go_on(run, user, "Resumed")
    return run


def run_retry(*, run_id: str, user: User) -> Run:
    """Start an ended run again, from its newest checkpoint."""
    with transaction.atomic():
        run = run_owned(run_id, user)
        ended = run.state in (State.FAILED, State.STOPPED)
        if not (ended or (run.state == State.LOST and run.process == Process.EXITED)):
            raise ValueError(
                f"Only a run that failed or was stopped can be retried; this one is {run.state}."
            )
        # Whoever retries has looked: nodes that a rule has ruled out get another chance.
        _go_on(run, user, "Retried", restarts=0, excluded_nodes=[])
    return run


def run_patch(*, run_id: str, user: User, changes: dict[str, Any]) -> Run:
    """Rename, tag, annotate, reprioritise, or change knobs of a run at work.

    Raises ValueError for what cannot be changed, SpecError for a bad knob.
    """
    unknown = changes.keys() - PATCHABLE
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))} cannot be changed.")
    with transaction.atomic():
        run = run_owned(run_id, user)
        facts = {key: value for key, value in changes.items() if key != "knobs"}
        if "tags" in facts:
            facts["tags"] = sorted({tag.strip() for tag in facts["tags"] if tag.strip()})
        if "policy" in facts:
            facts["policy"] = policy_checked(facts["policy"])
        if "promotion" in facts:
            if begun := run.promotion.get("begun", {}).get("comparison"):
                raise ValueError(
                    f"promotion: it was carried out already, by the comparison {begun}"
                )
            facts["promotion"] = after_checked(facts["promotion"], run.spec)
        if knobs := changes.get("knobs"):
            knobs_change(run, knobs, who=user.get_username())
            hint("run", run=run.pk)
        if facts and run_change(run, who=user.get_username(), **facts):
            hint("run", run=run.pk)
        if facts.keys() & PLACED_BY:
            transaction.on_commit(schedule_soon)
    return run


def _go_on(run: Run, user: User, verb: str, **facts: Any) -> None:
    who = user.get_username()
    facts |= {
        "desired": Desired.RUN,
        "desired_by": who,
        "desired_at": timezone.now(),
        "reason": f"{verb} by {who}.",
    }
    if run.process not in HELD:
        facts |= {"process": Process.NONE, "cause": "", "complete": False, "last_contact": None}
    run_change(run, who=who, **facts)
    hint("want", run=run.pk)
    transaction.on_commit(schedule_soon)


def _asked(desired: str, who: str, sentence: str, message: str) -> dict[str, Any]:
    return {
        "desired": desired,
        "desired_by": who,
        "desired_at": timezone.now(),
        "reason": f"{sentence}: {message}" if message else f"{sentence}.",
    }


def _named_things_exist(spec: dict[str, Any]) -> Run | None:
    """Check the ids in a spec; return the run that this one waits for."""
    problems: list[Problem] = []
    waits_for = None
    for path, name in models_of(spec).items():
        if name.startswith(RUN_PREFIX):
            waits_for = waits_for or Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
        if message := _model_problem(path, name):
            problems.append(Problem(path=path, message=message))
    if not problems:
        problems += _revisions_apply(spec)
    problems += _datasets_missing(spec)
    if problems:
        raise SpecError(problems)
    return waits_for


def _model_problem(path: str, name: str) -> str:
    """Why a run cannot load the model of this name; "" when it can, as far as is known here."""
    if path.startswith("rewards.") and (problem := reward_model_problem(name)):
        return problem
    if name.startswith(RUN_PREFIX):
        parent = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
        return "" if parent and not is_being_deleted(parent.pk) else f"there is no {name}"
    if name.startswith(CHECKPOINT_PREFIX) and not _checkpoint_exists(name):
        return f"there is no {name}, or its files are gone"
    if name.startswith(EXTERNAL_PREFIX):
        return external_problem(name) or _revision_lost(path, name)
    return ""


def _revision_lost(path: str, name: str) -> str:
    """Why a hub model cannot be loaded at the revision at which it is registered; "" where it can, or has none."""
    external = external_named(name) if path.startswith(("play.", "rewards.")) else None
    if external is None or not external.revision:
        return ""
    who = "a playground loads" if path.startswith("play.") else "rewards load"
    return (
        f"{name} ({external.name}) is registered at the revision {external.revision}, and {who} "
        "hub models as they are now; download it and register the folder"
    )


def _checkpoint_exists(name: str) -> bool:
    pk = name.removeprefix(CHECKPOINT_PREFIX)
    found = Checkpoint.objects.filter(pk=pk, deleted=None).first()
    return found is not None and not is_being_deleted(found.run_id)


def _revisions_apply(spec: dict[str, Any]) -> list[Problem]:
    """Take over the revisions of external hub models; the spec has one for both of its models."""
    problems: list[Problem] = []
    for part in ("model", "reference"):
        name = spec[part]["name"]
        external = external_named(name) if name.startswith(EXTERNAL_PREFIX) else None
        revision = external.revision if external is not None else ""
        if not revision:
            continue
        if spec["model"]["revision"] not in ("", revision):
            message = f"{part}.name is registered at {revision}; write that, or nothing"
            problems.append(Problem(path="model.revision", message=message))
        spec["model"]["revision"] = revision
    return problems


def _mappings_apply(spec: dict[str, Any]) -> None:
    """Take over a dataset's own column names where the spec renames none."""
    named = {source["source"] for source in data_sources(spec)}
    mappings = dict(Dataset.objects.filter(pk__in=named).values_list("pk", "mapping"))
    for source in data_sources(spec):
        source["columns"] = source["columns"] or mappings.get(source["source"]) or {}


def _datasets_missing(spec: dict[str, Any]) -> list[Problem]:
    named = {one["source"] for one in data_sources(spec)} - registry.family("data").keys()
    wanted = {name for name in named if DATASET_ID.fullmatch(name)}
    known = set(Dataset.objects.filter(pk__in=wanted).values_list("pk", flat=True))
    return [
        Problem(path="data", message=f"there is no dataset {one}") for one in sorted(wanted - known)
    ]
