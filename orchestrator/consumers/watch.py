"""What one page follows of one run: its cursor, and the frame that brings it up to date."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Q
from django.utils import timezone

from orchestrator.models import ENDED, Run
from orchestrator.selectors.events import log_after as log_news
from orchestrator.selectors.events import log_line_shape, log_tail
from orchestrator.selectors.runs import KEPT, run_shape
from orchestrator.selectors.series import points_after
from orchestrator.selectors.streams import cursor_of, trainer_cursors

KEYS_MOST = 500
POINTS_MOST = 20_000
LINES_MOST = 1000
LINES_BEFORE = 200
RUNS_MOST = 500
UNHEARD = timedelta(minutes=1)


@dataclass
class Watch:
    """One watched run."""

    run_id: str
    keys: list[str]
    after: dict[str, int]
    log_end: int
    older: dict[int, int] = field(default_factory=dict)
    """Cursors of the attempts before the one of `after`: their late lines are a gap."""
    samples_step: int | None = None


def watch_open(frame: dict[str, Any], known: Watch | None = None) -> Watch:
    """The watch that a frame asks for. Raises ValueError when it asks for something impossible.

    The log goes on behind the line `log_after`, or where the watch that this one replaces stood; without
    either it begins a little before the end, because lines may have come since the page was drawn.
    """
    run = Run.objects.filter(pk=str(frame.get("run"))).first()
    if run is None:
        raise ValueError("there is no such run")
    keys = frame.get("keys") or []
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("keys must be a list of metric names")
    if len(keys) > KEYS_MOST:
        raise ValueError(f"one run is watched by at most {KEYS_MOST} metrics at a time")
    after = _cursor_read(frame["after"]) if frame.get("after") else cursor_of(run)
    older = {n: seq for n, seq in trainer_cursors(run).items() if n < after["attempt"]}
    log_after = frame.get("log_after")
    if not isinstance(log_after, int):
        log_after = known.log_end if known else _log_begin(run)
    return Watch(run.pk, keys, after, min(log_after, 2**63 - 1), older)


def _log_begin(run: Run) -> int:
    lines = log_tail(run=run, lines=LINES_BEFORE)
    return lines[0].pk - 1 if lines else 0


def _cursor_read(value: Any) -> dict[str, int]:
    if isinstance(value, dict):
        attempt, seq = value.get("attempt"), value.get("seq")
        if isinstance(attempt, int) and isinstance(seq, int) and attempt >= 0 and seq >= 0:
            return {"attempt": min(attempt, 2**31 - 1), "seq": min(seq, 2**63 - 1)}
    raise ValueError('after must be {"attempt": number, "seq": number}')


def runs_news(changed: set[str], unseen: bool) -> list[dict[str, Any]]:
    """These runs as they are now; `unseen` adds all whose change may have gone unheard."""
    wanted = Q(pk__in=changed)
    if unseen:
        wanted |= ~Q(state__in=ENDED) | Q(ended__gt=timezone.now() - UNHEARD)
    found = Run.objects.select_related("node", "owner").annotate(checkpoint_count=KEPT)
    return [run_shape(run) for run in found.filter(wanted)[:RUNS_MOST]]


def news_read(watch: Watch, kind: str) -> dict[str, Any] | None:
    """The frame with what is new of a kind; None when nothing is. Moves the cursor of the watch."""
    if kind == "samples":
        return {"op": "samples", "run": watch.run_id, "step": watch.samples_step}
    run = Run.objects.filter(pk=watch.run_id).first()
    if run is None:
        return None
    return _log_news(run, watch) if kind == "log" else _points_news(run, watch)


def _log_news(run: Run, watch: Watch) -> dict[str, Any] | None:
    lines = log_news(run=run, after=watch.log_end, lines=LINES_MOST)
    if not lines:
        return None
    watch.log_end = lines[-1].pk
    return {"op": "log", "run": run.pk, "lines": [log_line_shape(line) for line in lines]}


def _points_news(run: Run, watch: Watch) -> dict[str, Any] | None:
    cursors = trainer_cursors(run)
    points, upto = points_after(run=run, keys=watch.keys, after=watch.after)
    older = {n: seq for n, seq in cursors.items() if n < watch.after["attempt"]}
    too_many = sum(map(len, points.values())) > POINTS_MOST
    after, watch.after, known_older = watch.after, upto, watch.older
    watch.older = {n: seq for n, seq in cursors.items() if n < upto["attempt"]}
    if older != known_older or too_many or _place(upto) < _place(after):
        return {"op": "gap", "run": run.pk}
    if upto == after:
        return None
    return {"op": "points", "run": run.pk, "after": after, "upto": upto, "points": points}


def _place(cursor: dict[str, int]) -> tuple[int, int]:
    return cursor["attempt"], cursor["seq"]
