"""What runs reported: curves, samples, events, log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router

from orchestrator.api.runs import run_or_404
from orchestrator.api.shapes import Curve, EventOut, Listed, LogLineOut, SampleOut
from orchestrator.selectors.events import event_shape, events_list, log_line_shape, log_tail
from orchestrator.selectors.samples import sample_shape, samples_list
from orchestrator.selectors.series import cursor_of, series_keys, series_read

if TYPE_CHECKING:
    from collections.abc import Iterable

router = Router(tags=["telemetry"])

CURSOR_HEADER = "X-Anneal-Cursor"
KEYS_MOST = 500

Page = Annotated[int, Query(ge=1, le=1_000_000)]
PerPage = Annotated[int, Query(ge=1, le=500)]
Keys = Annotated[str, Query(alias="keys", max_length=60_000)]
Key = Annotated[list[str], Query(alias="key")]
NO_KEYS: list[str] = []


def keys_asked(names: str, single: Iterable[str]) -> list[str]:
    """The metrics that a query names, each once: those of `key` as they are, `keys` with commas between."""
    return list(dict.fromkeys(key for key in (*single, *names.split(",")) if key))


@router.get("/runs/{run_id}/keys", response=list[str])
def run_keys(request: HttpRequest, run_id: str) -> list[str]:
    """The names of the metrics that a run has reported."""
    return series_keys(run_or_404(run_id))


@router.get("/runs/{run_id}/series", response=dict[str, Curve])
def run_series(
    request: HttpRequest,
    run_id: str,
    names: Keys = "",
    single: Key = NO_KEYS,
    x: str = "step",
    points: Annotated[int, Query(ge=8, le=100_000)] = 1500,
    start: Annotated[float | None, Query(alias="from")] = None,
    end: Annotated[float | None, Query(alias="to")] = None,
    attempt: Annotated[int | None, Query(ge=0, lt=2**31)] = None,
) -> HttpResponse:
    """Curves by metric, thinned to `points` without hiding a spike.

    Metrics are named by `key=NAME`, as often as wanted, or by `keys=A,B` where no name holds a comma; without
    either all come.

    The header `X-Anneal-Cursor` says where a socket continues.
    """
    run = run_or_404(run_id)
    cursor = cursor_of(run)
    wanted = keys_asked(names, single) or series_keys(run)
    if len(wanted) > KEYS_MOST:
        raise ValueError(f"{len(wanted)} metrics at once; {KEYS_MOST} is the most")
    curves = series_read(
        run=run, keys=wanted, x=x, points=points, start=start, end=end, attempt=attempt, upto=cursor
    )
    # Thousands of numbers that were stored as such need no second check.
    text = json.dumps(curves, allow_nan=False, separators=(",", ":"))
    headers = {CURSOR_HEADER: json.dumps(cursor)}
    return HttpResponse(text, content_type="application/json", headers=headers)


@router.get("/runs/{run_id}/samples", response=Listed[SampleOut])
def run_samples(
    request: HttpRequest,
    run_id: str,
    step: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    prompt: str | None = None,
    group: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    min_reward: float | None = None,
    max_reward: float | None = None,
    text: Annotated[str | None, Query(max_length=500)] = None,
    page: Page = 1,
    per_page: PerPage = 50,
) -> dict[str, Any]:
    """Sampled answers, newest step first."""
    found, count = samples_list(
        run=run_or_404(run_id),
        step=step,
        prompt=prompt,
        group=group,
        min_reward=min_reward,
        max_reward=max_reward,
        text=text,
        page=page,
        per_page=per_page,
    )
    return {"items": [sample_shape(sample) for sample in found], "count": count}


@router.get("/runs/{run_id}/events", response=Listed[EventOut])
def run_events(
    request: HttpRequest,
    run_id: str,
    type: str | None = None,
    page: Page = 1,
    per_page: PerPage = 100,
) -> dict[str, Any]:
    """What happened, newest first."""
    found, count = events_list(run=run_or_404(run_id), type=type, page=page, per_page=per_page)
    return {"items": [event_shape(event) for event in found], "count": count}


@router.get("/runs/{run_id}/log", response=Listed[LogLineOut])
def run_log(
    request: HttpRequest,
    run_id: str,
    lines: Annotated[int, Query(ge=1, le=5000)] = 200,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> dict[str, Any]:
    """The last printed lines, oldest first; `before` is the id of the first line already read."""
    found = log_tail(run=run_or_404(run_id), lines=lines, before=before)
    return {"items": [log_line_shape(line) for line in found], "count": len(found)}
