"""Events of a run in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

from orchestrator.models import State
from orchestrator.templatetags.figures import figure

if TYPE_CHECKING:
    from orchestrator.models import Event

register = template.Library()


@register.simple_tag
def event_words(event: Event) -> dict[str, Any]:
    """`title`, `text`, `icon`, the `state` or `level` that colours it; `mortem`, an attempt that ended badly."""
    tell = {
        "status": _status,
        "checkpoint": _checkpoint,
        "alert": _alert,
        "knobs": _knobs,
        "asked": _asked,
        "shelf": _shelf,
    }
    data = event.data if isinstance(event.data, dict) else {}
    known = tell.get(event.type)
    if known is None:
        return {"title": event.type, "text": _said(data), "icon": "info"}
    return known(data, event)


def _status(data: dict[str, Any], event: Event) -> dict[str, Any]:
    state = str(data.get("state", ""))
    found: dict[str, Any] = {"title": state, "text": _said(data), "icon": "info"}
    if state in State.values:
        found |= {"icon": state, "state": state}
    by = data.get("by")
    if by and by not in ("server", "trainer", "host") and str(by) not in found["text"]:
        found["text"] = f"{found['text']} by {by}".strip()
    # The trainer's word, or host's for it; the server's alone where both were silent.
    if (event.source, state) in (("trainer", State.FAILED), ("server", State.LOST)):
        found["mortem"] = event.attempt
    phase = data.get("phase")
    if event.source == "trainer" and phase and not found["text"]:
        found["text"] = f"{phase}, step {figure(data.get('step'))}"
    return found


def _checkpoint(data: dict[str, Any], event: Event) -> dict[str, str]:
    last = "final checkpoint" if data.get("final") else "checkpoint"
    return {"title": last, "text": f"at step {figure(data.get('step'))}", "icon": "checkpoints"}


def _alert(data: dict[str, Any], event: Event) -> dict[str, str]:
    level = str(data.get("level", "info"))
    found = {"title": str(data.get("code") or level), "text": _said(data), "icon": "info"}
    if level in ("warning", "error"):
        found |= {"icon": level, "level": level}
    told = data.get("data")
    if data.get("code") == "stall" and isinstance(told, dict):
        found["stacks"] = str(told.get("stacks") or "")
    return found


def _knobs(data: dict[str, Any], event: Event) -> dict[str, str]:
    changes = data.get("changes")
    told = changes if isinstance(changes, list) else []
    text = ", ".join(f"{one['path']} {one['old']} → {one['new']}" for one in told)
    by = f" by {data['by']}" if data.get("by") else ""
    return {"title": "knobs changed", "text": text + by, "icon": "api"}


def _asked(data: dict[str, Any], event: Event) -> dict[str, str]:
    words = {"save": "a checkpoint", "evaluate": "an evaluation"}
    what = words.get(str(data.get("what")), str(data.get("what")))
    return {"title": "asked", "text": f"for {what} by {data.get('by', '')}", "icon": "api"}


def _shelf(data: dict[str, Any], event: Event) -> dict[str, str]:
    return {"title": _said(data), "text": f"by {data.get('by', '')}", "icon": "archive"}


def _said(data: dict[str, Any]) -> str:
    return str(data.get("message") or data.get("reason") or "")
