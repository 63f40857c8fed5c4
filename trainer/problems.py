"""What is wrong with a spec: pydantic's complaints as field paths and sentences."""

from __future__ import annotations

import re

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from trainer import registry


class Problem(BaseModel):
    """One thing wrong with a spec: where, and what to change."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class SpecError(ValueError):
    """A spec that cannot run; `problems` says where and why."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


def problems_of(error: ValidationError) -> list[Problem]:
    """Pydantic's complaints as field paths (`objective.clip_low`) and sentences."""
    found: list[Problem] = []
    items = error.errors(include_url=False, include_context=False)
    # pydantic also calls a list too short whose only item is faulty.
    faulty = {item["loc"][:length] for item in items for length in range(len(item["loc"]))}
    for item in items:
        if item["type"] == "too_short" and item["loc"] in faulty:
            continue
        # A discriminated union puts the tag into the path: objective.grpo.clip_low.
        parts = [str(part) for part in item["loc"]]
        path = ".".join(_without_tags(parts))
        message = re.sub(r"^Value error, ", "", item["msg"])
        if item["type"] == "value_error" and not path:
            found += [_split(sentence) for sentence in message.splitlines()]
        else:
            found.append(Problem(path=path, message=message))
    return found


def _split(sentence: str) -> Problem:
    path, separator, rest = sentence.partition(": ")
    return (
        Problem(path=path, message=rest)
        if separator and " " not in path
        else Problem(path="", message=sentence)
    )


_FAMILY_OF = {
    "objective": "objectives",
    "advantage": "advantages",
    "rewards": "rewards",
    "curriculum": "curricula",
    "guidance": "guidance",
    "optimizer": "optimizers",
    "adapter": "adapters",
    "schedule": "schedules",
    "transform": "data",
}


def _without_tags(parts: list[str]) -> list[str]:
    kept: list[str] = []
    family = ""
    for part in parts:
        if family and part in registry.family(family) and not part.isdigit():
            family = ""
            continue
        if not part.isdigit():
            family = _FAMILY_OF.get(part, "")
        kept.append(part)
    return kept


def under(name: str, error: ValidationError) -> ValidationError:
    """The same complaints, one field further down."""
    details = [
        InitErrorDetails(
            type=PydanticCustomError(item["type"], "{message}", {"message": item["msg"]}),
            loc=(name, *item["loc"]),
            input=item["input"],
        )
        for item in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(error.title, details)
