"""Knobs that may change while a run goes on: which they are, whether a value fits, and the spec they give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from trainer.problems import Problem, SpecError
from trainer.spec import spec_parse
from trainer.specfile import set_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from trainer.spec import RunSpec

AT_A_NEW_BATCH = "rollout."
"""Knobs that answers were sampled with: they wait until no update on the batch in hand remains."""


def with_knobs(spec: RunSpec, knobs: Mapping[str, Any]) -> RunSpec:
    """The spec as launched with live changes. Raises SpecError that names the knob."""
    problems = [
        Problem(path=path, message=message)
        for path in knobs
        if (message := live_problem(spec, path))
    ]
    if problems:
        raise SpecError(problems)
    data = spec.model_dump(mode="json")
    for path, value in knobs.items():
        set_path(data, path, value)
    return spec_parse(data)


def live_problem(spec: RunSpec, path: str) -> str:
    """Why a knob cannot change while the run goes on; "" when it can."""
    if not is_live(spec, path):
        return "cannot be changed while the run works"
    section, _, name = path.rpartition(".")
    if section == "objective" and name in spec.objective.steered:
        return "is steered by the objective's own controller, so a change would have no effect"
    if path.startswith(AT_A_NEW_BATCH) and not spec.online:
        return "has no effect: this objective samples no answers to learn from"
    return ""


def is_live(spec: RunSpec, path: str) -> bool:
    """Whether the knob at a path is one that may change while a run goes on."""
    *sections, name = path.split(".")
    place: Any = spec
    for section in sections:
        place = _inside(place, section)
    return isinstance(place, BaseModel) and _marked(place, name)


def live_knobs(spec: RunSpec) -> dict[str, Any]:
    """Every knob of this run that may change while it goes on, with its value, in the spec's order."""
    return {path: value for path, value in _marked_below(spec, "") if not live_problem(spec, path)}


def value_at(spec: RunSpec, path: str) -> Any:
    """The value at a path that is known to exist."""
    place: Any = spec
    for part in path.split("."):
        place = _inside(place, part)
    return place


def _inside(place: Any, name: str) -> Any:
    if isinstance(place, tuple):
        inside = name.isdecimal() and name.isascii() and int(name) < len(place)
        return place[int(name)] if inside else None
    return getattr(place, name, None) if isinstance(place, BaseModel) else None


def _marked(section: BaseModel, name: str) -> bool:
    info = type(section).model_fields.get(name)
    extra = info.json_schema_extra if info is not None else None
    return isinstance(extra, dict) and bool(extra.get("live"))


def _marked_below(place: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(place, tuple):
        for number, item in enumerate(place):
            yield from _marked_below(item, f"{path}.{number}")
    elif isinstance(place, BaseModel):
        for name in type(place).model_fields:
            below = f"{path}.{name}" if path else name
            if _marked(place, name):
                yield below, getattr(place, name)
            else:
                yield from _marked_below(getattr(place, name), below)
