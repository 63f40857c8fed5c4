"""A bad signal of an attempt, and where on the pages it is to be seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.urls import reverse

if TYPE_CHECKING:
    from orchestrator.models import Run

BEFORE, AFTER = 60, 15
"""Steps around a signal that its link shows of the charts."""
LINES_BEHIND = 200
"""Log lines behind a signal that its link shows."""


@dataclass(frozen=True)
class Signal:
    """Something that was not as it should be. It need not be the cause of anything that came later."""

    kind: str
    """metric, alert, log, node or silence."""
    code: str
    time: float
    """Unix seconds by the server's clock, as far as the difference of the clocks is known."""
    title: str
    text: str = ""
    level: str = "warning"
    step: int | None = None
    """The step that it belongs to, or the last one that was logged before it."""
    metric: str = ""
    event: int | None = None
    line: int | None = None

    def earlier(self, seconds: float) -> Signal:
        """The same by a clock that shows so much less."""
        return replace(self, time=self.time - seconds)


def signal_shape(run: Run, attempt: int, signal: Signal) -> dict[str, Any]:
    """A signal as REST and pages give it."""
    return {
        "kind": signal.kind,
        "code": signal.code,
        "level": signal.level,
        "time": datetime.fromtimestamp(signal.time, UTC),
        "step": signal.step,
        "title": signal.title,
        "text": signal.text,
        "metric": signal.metric or None,
        "link": _link(run, attempt, signal),
    }


def _link(run: Run, attempt: int, signal: Signal) -> str | None:
    """The page that shows the place: a window of the charts, a line of the log, an event, the node."""
    if signal.metric and signal.step is not None:
        query = {
            "from": max(0, signal.step - BEFORE),
            "to": signal.step + AFTER,
            "q": signal.metric,
        }
        # A later attempt may have logged the same steps again.
        query |= {"attempt": attempt} if attempt < run.attempt else {}
        return f"{reverse('run-tab', args=[run.pk, 'metrics'])}?{urlencode(query)}"
    if signal.line is not None:
        tab = reverse("run-tab", args=[run.pk, "log"])
        return f"{tab}?before={signal.line + LINES_BEHIND}#line-{signal.line}"
    if signal.event is not None:
        tab = reverse("run-tab", args=[run.pk, "events"])
        return f"{tab}?event={signal.event}#event-{signal.event}"
    if signal.kind == "node":
        return reverse("nodes")
    return None
