"""Bad signals in what an attempt logged: values that are no number, unusual ones, and steps that stayed away.

All times are the node's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.models import Event
from orchestrator.selectors.attempt_points import SICK
from orchestrator.selectors.signals import Signal
from orchestrator.selectors.truth_verdict import span
from trainer.events import number_encode
from trainer.metrics import WARM_UP_PREFIX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from orchestrator.models import Run
    from orchestrator.selectors.attempt_points import AttemptPoints

WINDOW, LEAST = 100, 20
"""An unusual value is told from so many values before it; from fewer than the least nothing is told."""
DEVIATIONS = 10.0
SPREAD = 1.4826
"""The median of the distances from the median times this is the deviation of a normal distribution."""
LOSS_MORE, NORM_TIMES = 0.5, 3.0
"""An unusual loss lies above the median by at least half of it, an unusual gradient norm is three times it."""
RECENT = 50
"""Steps before the end within which an unusual value counts."""
RECOVERED = 20
"""So many usual values behind an unusual one say that it passed."""
NAMED = 3
"""So many metrics are named in a title."""
PACE_STEPS, PACE_TIMES, PACE_LEAST = 200, 8.0, 30.0
"""A pause is a gap of eight usual steps and of half a minute at least."""

RULE = (
    f"Unusual is a loss or gradient norm of the last {RECENT} steps above the median of the {WINDOW} "
    f"values before it by more than {DEVIATIONS:g} deviations (1.48 times the median distance from the "
    f"median), and for a loss by half of the median, for a gradient norm three times it; one that is "
    f"followed by {RECOVERED} usual values does not count. Unusual is not yet a cause."
)


def main_key(points: AttemptPoints) -> str | None:
    """The metric by which steps are counted: the loss, of the warm-up while nothing else was logged."""
    found = [key for key in (*SICK, *(WARM_UP_PREFIX + key for key in SICK)) if key in points.keys]
    others = [key for key in points.keys if not key.startswith("eval/")]
    return next(iter([*found, *sorted(others, key=points.count, reverse=True)]), None)


def sick_signals(points: AttemptPoints, since: float) -> list[Signal]:
    """Values that are no number: of loss and gradient whenever they came, of others since then or for good."""
    keys = [*SICK, *(WARM_UP_PREFIX + key for key in SICK)]
    steps: dict[int, dict[str, Any]] = {}
    found = {**points.turned(since), **points.first_sick(keys)}
    for key, point in sorted(
        found.items(), key=lambda one: (one[0] not in keys, one[0] != "loss", one[0])
    ):
        steps.setdefault(int(point["step"]), {})[key] = point
    return [_sick(step, found) for step, found in steps.items()]


def _sick(step: int, points: dict[str, Any]) -> Signal:
    """One signal for all metrics that were no number first at this step."""
    values = {key: float(point["value"]) for key, point in points.items()}
    whole = all(np.isinf(value) for value in values.values())
    names = list(values)
    shown = names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED} more"]
    told = ", ".join(shown[:-1]) + f" and {shown[-1]}" if len(shown) > 1 else shown[0]
    were = "were" if len(names) > 1 else "was"
    became = ", ".join(f"{key} {number_encode(value)}" for key, value in values.items())
    return Signal(
        kind="metric",
        code="infinite" if whole else "not-a-number",
        time=float(next(iter(points.values()))["time"]),
        title=f"{told} {were} {'infinite' if whole else 'no number' if len(names) > 1 else 'not a number'}",
        text=f"At step {step}: {became}."[:300],
        level="error",
        step=step,
        metric=names[0],
    )


def unusual_signals(points: AttemptPoints) -> list[Signal]:
    """The first unusual loss and gradient norm of those that led up to the end."""
    found = []
    for key in SICK:
        if key not in points.keys:
            continue
        last = points.last(key, RECENT + WINDOW)
        if (at := unusual(last["value"], times=key == "grad_norm")) is not None:
            place, median = at
            point = last[place]
            value = float(point["value"])
            more = f"{value / median:,.3g} times it" if median > 0 else f"far above it: {value:.4g}"
            found.append(
                Signal(
                    kind="metric",
                    code="unusual",
                    time=float(point["time"]),
                    title=f"{key} was unusually high",
                    text=f"{value:.4g} at step {int(point['step'])}; the median of the steps before was "
                    f"{median:.4g}, this is {more}. It need not be the cause.",
                    step=int(point["step"]),
                    metric=key,
                )
            )
    return found


def unusual(values: NDArray[Any], *, times: bool) -> tuple[int, float] | None:
    """The place of the first unusual value (N,) that led up to the end, and the median before it, or None.

    `times` asks for three times the median, else for half of it more. Values that are no number pass.
    """
    odd: list[tuple[int, float]] = []
    usual = [value for value in values[: max(0, len(values) - RECENT)] if np.isfinite(value)]
    for place in range(max(0, len(values) - RECENT), len(values)):
        value = float(values[place])
        if not np.isfinite(value):
            continue
        before = np.array(usual[-WINDOW:])
        median = float(np.median(before)) if len(before) else 0.0
        deviation = SPREAD * float(np.median(np.abs(before - median))) if len(before) else 0.0
        floor = NORM_TIMES * median if times else median + LOSS_MORE * abs(median)
        high = value > max(median + DEVIATIONS * deviation, floor)
        # Values of which most are equal have no spread to measure by.
        if len(before) >= LEAST and deviation > 0 and high:
            odd.append((place, median))
        else:
            usual.append(value)
    first, following = None, len(values)
    for place, median in reversed(odd):
        if following - place > RECOVERED:
            break
        first, following = (place, median), place
    return first


def pause_signals(run: Run, number: int, points: AttemptPoints, end: float) -> list[Signal]:
    """Steps that stayed away for much longer than usual, with no other work told of in between."""
    key = main_key(points)
    if key is None:
        return []
    last = points.last(key, PACE_STEPS)
    if len(last) <= LEAST:
        return []
    apart = np.diff(last["time"])
    usual = float(np.median(apart))
    bound = max(PACE_TIMES * usual, PACE_LEAST)
    gaps = [(at, float(apart[at])) for at in np.flatnonzero(apart > bound).tolist()]
    rest = end - float(last["time"][-1])
    if rest > bound:
        gaps.append((len(last) - 1, rest))
    return [
        Signal(
            kind="silence",
            code="pause",
            time=float(last["time"][at]),
            title="Steps stayed away",
            text=f"After step {int(last['step'][at])} none was logged for {span(gap)}; a step usually "
            f"takes {usual:.2g} s.",
            step=int(last["step"][at]),
        )
        for at, gap in gaps
        if not _other_work(run, number, float(last["time"][at]), float(last["time"][at]) + gap)
    ]


def _other_work(run: Run, number: int, start: float, end: float) -> bool:
    """Whether the trainer said between two moments that it does something else than train."""
    told = Event.objects.filter(
        run=run,
        attempt=number,
        source="trainer",
        type__in=("status", "checkpoint"),
        time__gte=_moment(start),
        time__lt=_moment(end - 0.001),
    )
    return told.exclude(data__state__in=("failed", "stopped", "paused", "finished")).exists()


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
