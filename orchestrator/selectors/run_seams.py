"""Where a run's curves have seams: a new attempt took over, a knob changed while it ran, or it left its parent."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Event, Run

LABEL_LENGTH = 26
"""What fits along the height of a chart."""


def run_seams(run: Run) -> list[dict[str, Any]]:
    """`{step, time, label, text, kind}` for every seam, oldest first; `label` is the short form of `text`."""
    events = Event.objects.filter(run=run, source="trainer", type__in=("status", "alert"))
    found: list[dict[str, Any]] = []
    if run.parent_step is not None:
        text = f"fork of {run.parent_name} at step {run.parent_step}"
        label = f"fork at step {run.parent_step}"
        found.append(
            {"step": 0, "time": run_began(run), "label": label, "text": text, "kind": "fork"}
        )
    begun: set[int] = set()
    for event in events.order_by("id"):
        if event.type == "alert":
            if (event.data.get("code"), event.data.get("level")) == ("knobs", "info"):
                # The trainer says from which step a change counts, not when somebody asked for it.
                changed = str(event.data.get("message", "")).partition(": ")[2]
                found.append(_seam(event, changed or "knob changed", "knob", _short(event)))
        elif event.attempt > 1 and event.attempt not in begun and _trains(event):
            begun.add(event.attempt)
            found.append(_seam(event, f"attempt {event.attempt}", "attempt"))
    return found


def run_began(run: Run) -> float:
    """When a run's first attempt spoke first, in Unix seconds by its node's clock, as the points' times are."""
    told = Event.objects.filter(run=run, source__in=("trainer", "host")).order_by("attempt", "time")
    moment = told.values_list("time", flat=True).first() or run.started or run.created
    return float(moment.timestamp())


def _trains(event: Event) -> bool:
    """Whether from here on points of this attempt come; before it, steps are still those of the old one."""
    return event.data.get("state") == "running" and isinstance(event.data.get("step"), int)


def _short(event: Event) -> str:
    """The first change, by the knob's own name, and how many there were besides."""
    data = event.data.get("data")
    changes = data.get("changes") if isinstance(data, dict) else None
    if not changes:
        return ""
    first = changes[0]
    *_, section, name = ("", *str(first["path"]).split("."))
    known = f"{section}.{name}" if name == "weight" else name
    more = f" +{len(changes) - 1}" if len(changes) > 1 else ""
    return f"{known} {first['old']} → {first['new']}{more}"


def _seam(event: Event, text: str, kind: str, label: str = "") -> dict[str, Any]:
    step = event.data.get("step")
    return {
        "step": step if isinstance(step, int) else 0,
        "time": event.time.timestamp(),
        "label": (label or text)[:LABEL_LENGTH],
        "text": text,
        "kind": kind,
    }
