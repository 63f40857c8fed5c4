"""What a spec will do, before it is launched: problems, warnings, arithmetic in words, forecast.

Pure: it reads no database and no disk, so the form and `POST /api/runs/validate` say the same.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from orchestrator.planner.limits import PROCESSES_MOST
from orchestrator.selectors.knob_text import number_text
from orchestrator.selectors.spec_arithmetic import forecast, sentences
from orchestrator.selectors.spec_schema import methods_of, section_knobs, top_knobs
from trainer.spec import Problem, RunSpec, SpecError, spec_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from trainer.catalog import Knob

_BETWEEN = re.compile(r"([\d.e-]+)(?: to |-)([\d.e-]+)")
_SOURCE_PATH = re.compile(r"(data\.(?:train|eval)\.\d+)\.([^.]+)")


def spec_review(raw: Any) -> dict[str, Any]:
    """Errors and warnings as `{path, message}`, arithmetic as sentences, and a forecast."""
    spec, problems = spec_checked(raw)
    return {
        "errors": [problem.model_dump() for problem in problems],
        "warnings": [problem.model_dump() for problem in warnings(raw, spec)],
        "arithmetic": sentences(spec) if spec else [],
        "forecast": forecast(spec),
    }


def spec_checked(raw: Any) -> tuple[RunSpec | None, list[Problem]]:
    """The spec, or None with every problem at its own path."""
    extra = list(_not_finite(raw, ""))
    try:
        spec = spec_parse(raw)
    except SpecError as error:
        found = [placed for problem in error.problems if (placed := _placed(problem, raw))]
        return None, [*found, *extra]
    return (None if extra else spec), extra


def warnings(raw: Any, spec: RunSpec | None) -> list[Problem]:
    """What may run but is worth a second look."""
    found = list(_unhealthy(top_knobs().values(), raw, ""))
    if spec is not None:
        found += _doubts(spec)
    return found


def _doubts(spec: RunSpec) -> Iterator[Problem]:
    yield from _never_starts(spec)
    if spec.kind == "evaluate":
        return
    if not spec.data.eval:
        yield Problem(
            path="data.eval",
            message="nothing is held out: there will be no evaluation and no best checkpoint",
        )
    if spec.budget.max_steps and spec.evaluation.every_steps > spec.budget.max_steps:
        yield Problem(
            path="evaluation.every_steps",
            message="longer than the run: it is measured at the start and the end only",
        )
    warmup = getattr(spec.schedule, "warmup_steps", 0)
    if spec.budget.max_steps and warmup >= spec.budget.max_steps:
        yield Problem(
            path="schedule.warmup_steps",
            message="the run ends before the learning rate reaches its peak",
        )
    trained = {(item.source, item.split) for item in spec.data.train if not item.split_by}
    for number, item in enumerate(spec.data.eval):
        if not item.split_by and (item.source, item.split) in trained:
            yield Problem(
                path=f"data.eval.{number}.split",
                message=f"{item.source} {item.split} is trained on as well: this measures memory",
            )


def _never_starts(spec: RunSpec) -> Iterator[Problem]:
    """What is planned and waits, because this version cannot start it."""
    processes = spec.resources.local
    if processes > PROCESSES_MOST:
        yield Problem(
            path=f"resources.{'gpus' if spec.resources.gpus else 'processes'}",
            message=f"it would wait and not start: no node starts more than {PROCESSES_MOST} training processes "
            f"for a run, and {processes} are needed; set it to {PROCESSES_MOST} or less",
        )


def _unhealthy(knobs: Iterable[Knob], value: Any, prefix: str) -> Iterator[Problem]:
    """Numbers outside the range that their own help calls healthy."""
    if not isinstance(value, dict):
        return
    for knob in knobs:
        given = value.get(knob.name)
        path = f"{prefix}{knob.name}"
        if given is None:
            continue
        if knob.kind == "section":
            yield from _unhealthy(section_knobs(knob.of), given, f"{path}.")
        elif knob.kind == "method":
            yield from _unhealthy_method(knob, given, path)
        elif knob.kind in ("methods", "sections") and isinstance(given, (list, tuple)):
            for number, item in enumerate(given):
                inner = f"{path}.{number}"
                if knob.kind == "methods":
                    yield from _unhealthy_method(knob, item, inner)
                else:
                    yield from _unhealthy(section_knobs(knob.of), item, f"{inner}.")
        elif isinstance(given, (int, float)) and not isinstance(given, bool):
            yield from _outside(knob, float(given), path)


def _unhealthy_method(knob: Knob, value: Any, path: str) -> Iterator[Problem]:
    entry = (
        methods_of(knob.of, knob.role).get(str(value.get("type")))
        if isinstance(value, dict)
        else None
    )
    if entry is not None:
        yield from _unhealthy(entry.knobs, value, f"{path}.")


def _outside(knob: Knob, value: float, path: str) -> Iterator[Problem]:
    """Only a plain "8 to 16" is judged, and 0 is not where it turns something off."""
    match = _BETWEEN.fullmatch(knob.healthy.strip())
    if match is None or value == 0 or value == knob.default:
        return
    try:
        low, high = float(match[1]), float(match[2])
    except ValueError:
        return
    if not low <= value <= high:
        yield Problem(
            path=path,
            message=f"{number_text(value)} is outside the usual {match[1]} to {match[2]}",
        )


def _placed(problem: Problem, raw: Any) -> Problem | None:
    """A problem at the path and in the words of the form; None for an echo of another one.

    The spec checks the options of a built-in source one level up, and a faulty item makes pydantic
    count its list as empty.
    """
    message = problem.message
    if message.startswith("Tuple should have at least 1 item") and _at(raw, problem.path):
        return None
    path = problem.path
    if match := _SOURCE_PATH.fullmatch(path):
        options = _at(raw, f"{match[1]}.options")
        names = {knob.name for knob in section_knobs("data.train")}
        if match[2] not in names and isinstance(options, dict) and match[2] in options:
            path = f"{match[1]}.options.{match[2]}"
    if message == "Extra inputs are not permitted":
        message = "there is no such knob; remove it"
    message = re.sub(r", unable to (parse|interpret) .*$", "", message)
    return Problem(path=path, message=re.sub(r"^Input should be ", "must be ", message))


def _at(raw: Any, path: str) -> Any:
    """The value at a path of plain data; None when there is none."""
    for part in path.split("."):
        if isinstance(raw, dict):
            raw = raw.get(part)
        elif isinstance(raw, (list, tuple)) and part.isdigit() and int(part) < len(raw):
            raw = raw[int(part)]
        else:
            return None
    return raw


def _not_finite(value: Any, path: str) -> Iterator[Problem]:
    """NaN and infinities pass bounds that a knob does not have, and no JSON column holds them."""
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, str) and value.strip().lower() in {"nan", "inf", "-inf", "infinity"}
    ):
        yield Problem(path=path, message="must be a finite number")
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _not_finite(item, f"{path}.{name}".lstrip("."))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _not_finite(item, f"{path}.{number}")
