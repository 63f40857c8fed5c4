"""Where a run's curves have seams: a new attempt took over, or a knob changed while it ran."""

from __future__ import annotations

from typing import Any

from orchestrator.models import Event, Run


def run_seams(run: Run) -> list[dict[str, Any]]:
    """`{step, time, label, kind}` for every seam, oldest first."""
    found = []
    begun: set[int] = set()
    for event in Event.objects.filter(run=run, type__in=("status", "knobs")).order_by("id"):
        data = event.data
        step = data.get("step")
        if event.type == "knobs" and isinstance(step, int):
            changed = ", ".join(f"{path} = {value}" for path, value in _knobs(data).items())
            found.append(_seam(event, step, changed or "knob changed", "knob"))
        elif event.attempt > 1 and data.get("state") == "running" and event.attempt not in begun:
            begun.add(event.attempt)
            at = step if isinstance(step, int) else 0
            found.append(_seam(event, at, f"attempt {event.attempt}", "attempt"))
    return found


def _knobs(data: dict[str, Any]) -> dict[str, Any]:
    knobs = data.get("knobs")
    return knobs if isinstance(knobs, dict) else {}


def _seam(event: Event, step: int, label: str, kind: str) -> dict[str, Any]:
    return {"step": step, "time": event.time.timestamp(), "label": label[:60], "kind": kind}
