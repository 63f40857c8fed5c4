"""Live changes of a run: which knobs there are, what counted from which step on, who asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import ENDED, Event, Run
from trainer.live import live_knobs, value_at
from trainer.spec import SpecError, spec_parse
from trainer.specfile import set_path

if TYPE_CHECKING:
    from trainer.spec import RunSpec

CODES = ("knobs", "asked")
REQUESTS = {"save": "Save now", "evaluate": "Evaluate now"}


def past_changes(run: Run) -> list[dict[str, Any]]:
    """What attempts of the run changed and met, oldest first, less what a rollback voided."""
    found = [
        {"attempt": event.attempt, **data}
        for event in _told(run)
        if isinstance(data := event.data.get("data"), dict) and not _void(run, event, data)
    ]
    return found


def _told(run: Run) -> list[Event]:
    told = Event.objects.filter(run=run, source="trainer", type="alert", data__level="info")
    return list(told.filter(data__code__in=CODES).order_by("attempt", "seq"))


def _void(run: Run, event: Event, data: dict[str, Any]) -> bool:
    step = data.get("step", 0)
    return any(event.attempt <= attempt and step > behind for attempt, behind in run.voids)


def spec_with_overrides(run: Run) -> RunSpec:
    """The spec as attempts start with it now. Raises SpecError for one of another version."""
    raw = spec_parse(run.spec).model_dump(mode="json")
    for path, value in run.overrides.items():
        set_path(raw, path, value)
    return spec_parse(raw)


def steering(run: Run) -> dict[str, Any]:
    """`knobs` with path, value, the spec's own and what waits to be applied; `changes` newest first."""
    try:
        spec = spec_with_overrides(run)
    except SpecError:
        return {"knobs": [], "changes": [], "may_evaluate": False, "open": False}
    told = [one for one in past_changes(run) if "knobs" in one]
    counts = told[-1]["knobs"] if told else {}
    knobs = [
        {
            "path": path,
            "of": method_of(spec, path),
            "spec": own,
            "wanted": run.knobs.get(path, own),
            "counts": counts.get(path, own),
            "changed": path in run.knobs,
            "waits": run.knobs.get(path, own) != counts.get(path, own),
            "help": help_of(spec, path),
        }
        for path, own in live_knobs(spec).items()
    ]
    changes = [
        {"attempt": one["attempt"], "step": one["step"], **change}
        for one in reversed(told)
        for change in one.get("changes", [])
    ]
    return {
        "knobs": knobs,
        "changes": changes,
        "may_evaluate": bool(spec.data.eval),
        "open": run.state not in ENDED and run.kind == "train",
    }


def method_of(spec: RunSpec, path: str) -> str:
    """The method whose knob this is where several of a kind stand in a list, such as one of the rewards; or ""."""
    section, _, _ = path.rpartition(".")
    numbered = section.rpartition(".")[2].isdecimal()
    return str(getattr(value_at(spec, section), "type", "")) if numbered else ""


def help_of(spec: RunSpec, path: str) -> str:
    """The help text of the knob at a path."""
    section, _, name = path.rpartition(".")
    info = type(value_at(spec, section)).model_fields[name]
    return " ".join((info.description or "").split())
