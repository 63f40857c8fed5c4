"""Knobs that may change while a run works: which they are, and whether a value fits."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from trainer.spec import Problem, SpecError, spec_parse

if TYPE_CHECKING:
    from orchestrator.models import Run


def knobs_checked(run: Run, knobs: dict[str, Any]) -> dict[str, Any]:
    """The knobs as they are stored. Raises SpecError for one that is not live or does not fit."""
    parsed = spec_parse(run.spec)
    problems = [
        Problem(path=path, message="cannot be changed while the run works")
        for path in knobs
        if not _is_live(parsed, path)
    ]
    if problems:
        raise SpecError(problems)
    changed = copy.deepcopy(run.spec)
    for path, value in {**run.knobs, **knobs}.items():
        *parts, last = path.split(".")
        section = changed
        for part in parts:
            section = section[part]
        section[last] = value
    spec_parse(changed)
    return knobs


def _is_live(section: Any, path: str) -> bool:
    *parts, last = path.split(".")
    for part in parts:
        section = getattr(section, part, None)
    if not isinstance(section, BaseModel):
        return False
    field = type(section).model_fields.get(last)
    extra = field.json_schema_extra if field is not None else None
    return isinstance(extra, dict) and extra.get("live") is True
