"""Playgrounds: open one, ask it something. It is stopped as any run is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from pydantic import ValidationError

from orchestrator.models import ENDED, Question, Run
from orchestrator.selectors.playgrounds import KIND, model_shape
from orchestrator.services.event_fields import storable
from orchestrator.services.facts import run_owned
from orchestrator.services.hints import hint
from orchestrator.services.runs import run_create
from trainer import play
from trainer.problems import Problem, SpecError, problems_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import User

TAG = "playground"


class Full(ValueError):
    """The playground takes no question now."""


def playground_open(
    *,
    owner: User,
    models: Sequence[str],
    idle_minutes: float | None = None,
    name: str = "",
    gpus: int | str | None = None,
    priority: int = 0,
) -> Run:
    """Queue a run that loads these models. Raises SpecError that names the field."""
    wanted: dict[str, Any] = {"models": [model.strip() for model in models if model.strip()]}
    if idle_minutes is not None:
        wanted["idle_minutes"] = idle_minutes
    spec: dict[str, Any] = {"kind": KIND, "play": wanted}
    if gpus is not None:
        spec["resources"] = {"gpus": gpus}
    labels = [model_shape(one, "")["label"] for one in wanted["models"][:2]]
    return run_create(
        owner=owner,
        spec=spec,
        name=name or " and ".join(labels),
        tags=[TAG],
        priority=priority,
    )


def problems_named(error: SpecError) -> list[Problem]:
    """Faulty fields under the names that whoever opens a playground knows."""
    return [
        Problem(path=one.path.removeprefix(f"{KIND}."), message=one.message)
        for one in error.problems
    ]


def question_add(*, run_id: str, user: User, body: dict[str, Any]) -> Question:
    """Ask. The trainer hears of it at once where it listens, else as soon as it does.

    Raises SpecError that names the field, Full when it has ended or too many wait already.
    """
    try:
        asked = play.Question.model_validate(body)
    except ValidationError as error:
        raise SpecError(problems_of(error)) from error
    with transaction.atomic():
        run = run_owned(run_id, user)
        if run.kind != KIND:
            raise Full("This run is no playground: nobody answers here.")
        if run.state in ENDED:
            raise Full(f"The playground has ended ({run.state}): open another one.")
        models = len(run.spec["play"]["models"])
        if asked.needs_base and models < play.MOST:
            raise SpecError([_needs_base(asked)])
        waiting = Question.objects.filter(run=run, answered=None).count()
        if waiting >= play.OPEN_MOST:
            raise Full(f"{waiting} questions wait already, which is the most: let it answer first.")
        made = Question.objects.create(
            run=run, by=user, body=storable(asked.model_dump(mode="json")), expected=asked.expected
        )
        hint("want", run=run.pk)
    return made


def _needs_base(asked: play.Question) -> Problem:
    path = "voices" if "base" in asked.voices else "blend.mode"
    message = "needs a third model, the base; this playground has two"
    return Problem(path=path, message=message)
