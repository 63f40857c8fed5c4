"""The stall that a run is in, as host told of it, and what becomes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Desired, Event, Process
from orchestrator.models.restart_policy import policy_stored

if TYPE_CHECKING:
    from orchestrator.models import Run

STALLED = "Stalled in "
"""How the reason of a run begins while its trainer stalls."""
CODES = ("stall", "stall-over")
HELD = (Process.CLAIMED, Process.ALIVE)
OUTLOOK = {
    "tell": "Its policy is to tell: it stays as it is until it goes on by itself or somebody acts.",
    "restart": "By its policy the node ends it by force, and it goes on from its newest checkpoint.",
    "stop": "By its policy the node ends it by force, and the run ends.",
}

ASKED = "It was asked to end, and has its deadlines for that."


def stall_standing(run: Run) -> Event | None:
    """The alert of the stall that the run's attempt is in now; None while it is in none."""
    if run.process not in HELD:
        return None
    found = Event.objects.filter(run=run, attempt=run.attempt, source="host", type="alert")
    last = found.filter(data__code__in=CODES).order_by("-seq").first()
    return last if last is not None and last.data.get("code") == "stall" else None


def stall_reason(data: Any) -> str:
    """The reason of a run whose host said this of a stall."""
    told = data if isinstance(data, dict) else {}
    phase = str(told.get("phase") or "an unknown phase")[:32]
    silent, expected = _seconds(told, "silent_s"), _seconds(told, "expected_s")
    return f"{STALLED}{phase}: silent for {silent}, expected {expected} at most."


def stall_shape(run: Run) -> dict[str, Any] | None:
    """The standing stall as pages and REST show it."""
    event = stall_standing(run)
    if event is None:
        return None
    data = event.data.get("data")
    told = data if isinstance(data, dict) else {}
    policy = policy_stored(run.policy).on_stall
    return {
        "event": event.pk,
        "since": event.time.isoformat(),
        "phase": str(told.get("phase") or "")[:32],
        "silent_s": _number(told, "silent_s"),
        "expected_s": _number(told, "expected_s"),
        "because": str(told.get("because") or ""),
        "evidence": str(told.get("evidence") or event.data.get("message") or ""),
        "message": str(event.data.get("message") or ""),
        "asked": run.desired != Desired.RUN,
        "policy": policy,
        "outlook": OUTLOOK[policy] if run.desired == Desired.RUN else ASKED,
        "stacks": str(told.get("stacks") or ""),
    }


def stall_told(run: Run) -> dict[str, Any] | None:
    """The standing stall without what is long and lies in the event. Runs in no stall cost no query."""
    found = stall_shape(run) if run.reason.startswith(STALLED) else None
    long = ("stacks", "evidence", "because")
    return None if found is None else {name: found[name] for name in found if name not in long}


def _seconds(told: dict[str, Any], name: str) -> str:
    value = _number(told, name)
    return "an unknown time" if value is None else f"{value:.0f} s"


def _number(told: dict[str, Any], name: str) -> float | None:
    value = told.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value)
