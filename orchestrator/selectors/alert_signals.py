"""Bad signals that somebody told as an alert: the trainer, its host or the server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Event
from orchestrator.selectors.signals import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Run

STALL, STALL_OVER = "stall", "stall-over"
LEVELS = ("warning", "error")
NEWEST = 200
"""Events of a run among which a stall that lasts is found: while it lasts little else happens."""
NOT_SIGNS = frozenset(
    {
        # What the server made of an end.
        *("oom-retry", "nan-rollback", "node-excluded", "log-rule", "retention", "gives-way"),
        # Where an attempt started from, and how it differs from the one before.
        *("checkpoint-out-of-reach", "damaged-checkpoint", "spec-changed", "model", "rows-dropped"),
        # A training goes on while its checkpoints wait to be put into the store.
        "artifacts",
        # What people asked for, and clocks: neither says that something goes wrong.
        *("knobs", "asked", "clock", STALL_OVER),
    }
)
"""Codes of warnings that tell of no trouble to come."""
TITLES = {
    STALL: "Nothing moved any more",
    "stop-escalated": "It did not end as asked",
    "checkpoint": "A checkpoint could not be saved",
}


def alert_signals(events: Sequence[Event], since: float) -> list[Signal]:
    """Alerts since a moment of the node's clock that are signs of trouble. The server's own carry its clock."""
    stall = stall_open(events)
    found = []
    for event in events:
        data = event.data
        code = str(data.get("code", ""))
        if event.type != "alert" or data.get("level") not in LEVELS or code in NOT_SIGNS:
            continue
        # A stall that passed is no sign; one that lasts is, however long ago it began.
        counts = event is stall if code == STALL else event.time.timestamp() >= since
        if not counts:
            continue
        step = data.get("step")
        found.append(
            Signal(
                kind="alert",
                code=code or "alert",
                time=event.time.timestamp() - _silent(data, code),
                title=TITLES.get(
                    code, f"{event.source.capitalize()} raised the alert {code}".strip()
                ),
                text=str(data.get("message", ""))[:500],
                level=str(data["level"]),
                step=step if isinstance(step, int) and not isinstance(step, bool) else None,
                event=event.pk,
            )
        )
    return found


def stall_open(events: Sequence[Event]) -> Event | None:
    """The alert of a stall that nothing has ended since, or None."""
    found: Event | None = None
    for event in events:
        if event.type == "alert" and event.data.get("code") == STALL:
            found = event
        elif event.type == "alert" and event.data.get("code") == STALL_OVER:
            found = None
    return found


def stall_now(run: Run) -> bool:
    """Whether the newest word about a stall of the run is that it stands still; its last events tell."""
    newest = Event.objects.filter(run=run).order_by("-id")[:NEWEST]
    return stall_open([event for event in newest if event.attempt == run.attempt][::-1]) is not None


def stall_shape(event: Event) -> dict[str, Any]:
    """What is known of a stall: phase, seconds of silence and expected ones, GPUs, processes, stacks by title."""
    data = event.data.get("data")
    told = data if isinstance(data, dict) else {}
    return {
        "time": event.time,
        "message": str(event.data.get("message", "")),
        "phase": str(told.get("phase") or ""),
        "silent_s": _number(told.get("silent_s")),
        "expected_s": _number(told.get("expected_s")),
        "gpu": told.get("gpu"),
        "stacks_problem": str(told.get("stacks_problem") or ""),
        "stacks": list(_stacks(told.get("stacks"))),
    }


def _silent(data: dict[str, Any], code: str) -> float:
    """For how long it had been silent when a stall was told: that is when it began."""
    told = data.get("data")
    return (
        (_number(told.get("silent_s")) or 0.0) if code == STALL and isinstance(told, dict) else 0.0
    )


def _stacks(raw: Any) -> Any:
    """Stacks as (title, text), whether they came as one text, as a list or by process."""
    if isinstance(raw, str) and raw.strip():
        yield {"title": "", "text": raw}
    elif isinstance(raw, dict):
        for name, text in raw.items():
            lines = text if isinstance(text, list) else [text]
            yield {"title": str(name), "text": "\n".join(map(str, lines))}
    elif isinstance(raw, list):
        if all(isinstance(one, str) for one in raw):
            yield from ([{"title": "", "text": "\n".join(raw)}] if raw else [])
            return
        for one in raw:
            if isinstance(one, dict):
                words = {key: value for key, value in one.items() if key not in TEXTS}
                title = ", ".join(f"{key} {value}" for key, value in words.items())
                text = next((one[key] for key in TEXTS if one.get(key)), "")
                lines = text if isinstance(text, list) else [text]
                yield {"title": title[:200], "text": "\n".join(map(str, lines))}


TEXTS = ("text", "stack", "frames", "dump", "stacks")


def _number(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if good else None
