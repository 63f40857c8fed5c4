"""How far an attempt was healthy, the checkpoint that keeps of it what can be kept, and the work that is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from django.db.models import Q

from orchestrator.models import Checkpoint, Event
from orchestrator.selectors.alert_signals import STALL
from orchestrator.selectors.attempt_points import SICK
from orchestrator.selectors.metric_signals import main_key
from trainer.metrics import WARM_UP_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from orchestrator.models import Attempt, Run
    from orchestrator.selectors.attempt_points import AttemptPoints
    from orchestrator.selectors.signals import Signal

ROWS_MOST = 100
"""Checkpoints that are looked at before the search for a usable one is given up."""
LAST = 64
"""Steps from the end among which the last one that counted is looked for."""


def bound_of(signals: Sequence[Signal]) -> Signal | None:
    """The first signal after which a step is no longer called healthy.

    Errors and unusual metrics are; the machine's load, warnings, pauses and stalls say nothing about the weights.
    """
    told = (one for one in signals if one.kind == "metric" or one.level == "error")
    return next((one for one in told if one.code != STALL), None)


def healthy_of(
    run: Run, attempt: Attempt, points: AttemptPoints, bound: Signal | None, ended: datetime | None
) -> dict[str, Any]:
    """The last healthy step, the checkpoint at or before it, and the work behind it, by the node's clock."""
    key = main_key(points)
    rows = _last_done(points, key) if key else None
    if key is None or rows is None or not len(rows):
        return _nothing_done(run, attempt, ended, key)
    done = rows[-1]
    healthy = _healthy(points, key, bound)
    warm_up = key.startswith(WARM_UP_PREFIX)
    began, began_time = _began(run, attempt)
    step = int(healthy["step"]) if healthy is not None else None
    floor = step if step is not None else began or 0
    saved = None if warm_up else checkpoint_upto(run, attempt.number, floor, ended)
    return {
        "step": step,
        "step_time": float(healthy["time"]) if healthy is not None else None,
        "last_step": int(done["step"]),
        "warm_up": warm_up,
        "began_at": began,
        "checkpoint": saved,
        **_lost(points, key, done, saved, began_time, warm_up=warm_up),
    }


def checkpoint_upto(
    run: Run, number: int, step: int, ended: datetime | None
) -> dict[str, Any] | None:
    """The newest checkpoint at or below a step that was there when the attempt ended, and whether it still is."""
    there = Q(deleted=None) | Q(deleted__gt=ended) if ended is not None else Q(deleted=None)
    rows = Checkpoint.objects.filter(there, run=run, step__lte=step).order_by("-step")
    for row in rows[:ROWS_MOST]:
        if row.attempt <= number:
            return _saved(row, row.attempt, again=False)
        # A later attempt saved this step again: only the event tells of the one that it replaced.
        mine = Event.objects.filter(
            run=run, attempt__lte=number, type="checkpoint", data__step=row.step
        )
        first = mine.order_by("-id").first()
        if first is not None:
            return _saved(row, first.attempt, again=True)
    return None


def _saved(row: Checkpoint, attempt: int, *, again: bool) -> dict[str, Any]:
    return {
        "id": row.pk,
        "step": row.step,
        "attempt": attempt,
        "kept": row.deleted is None,
        "saved_again": again,
    }


def _last_done(points: AttemptPoints, key: str) -> NDArray[Any]:
    """The last steps whose loss and gradient were numbers: of others the update was not made."""
    rows = points.last(key, LAST)
    good = np.isfinite(rows["value"])
    prefix = WARM_UP_PREFIX if key.startswith(WARM_UP_PREFIX) else ""
    for other in (prefix + name for name in SICK):
        if other != key and other in points.keys:
            beside = points.last(other, LAST)
            good &= ~np.isin(rows["step"], beside["step"][~np.isfinite(beside["value"])])
    return rows[good]


def _healthy(points: AttemptPoints, key: str, bound: Signal | None) -> Any:
    """The last point before the bound, or None."""
    if bound is None:
        rows = _last_done(points, key)
    elif bound.kind == "metric" and bound.step is not None:
        rows = points.upto(key, step=bound.step - 1)
    else:
        rows = points.upto(key, time=bound.time)
    rows = rows[np.isfinite(rows["value"])]
    return rows[-1] if len(rows) else None


def _lost(
    points: AttemptPoints,
    key: str,
    done: Any,
    saved: dict[str, Any] | None,
    began_time: float | None,
    *,
    warm_up: bool,
) -> dict[str, Any]:
    """Steps after the checkpoint, and the seconds that they took in this attempt."""
    if warm_up:
        return {"lost_steps": None, "lost_seconds": None}
    since = saved["step"] if saved is not None else 0
    kept = points.upto(key, step=since)
    first = float(kept["time"][-1]) if len(kept) else began_time
    return {
        "lost_steps": max(0, int(done["step"]) - since),
        "lost_seconds": None if first is None else max(0.0, float(done["time"]) - first),
    }


def _nothing_done(
    run: Run, attempt: Attempt, ended: datetime | None, key: str | None
) -> dict[str, Any]:
    began, _ = _began(run, attempt)
    saved = checkpoint_upto(run, attempt.number, began, ended) if began else None
    return {
        "step": None,
        "step_time": None,
        "last_step": None,
        "warm_up": bool(key and key.startswith(WARM_UP_PREFIX)),
        "began_at": began,
        "checkpoint": saved,
        "lost_steps": 0,
        "lost_seconds": None,
    }


def _began(run: Run, attempt: Attempt) -> tuple[int | None, float | None]:
    """The step from which the attempt went on and when; None while its trainer did not say that it trains."""
    told = Event.objects.filter(
        run=run, attempt=attempt.number, source="trainer", type="status", data__state="running"
    )
    found = told.filter(data__has_key="step").order_by("id").first()
    if found is None or not isinstance(found.data["step"], int):
        return None, None
    return found.data["step"], found.time.timestamp()
