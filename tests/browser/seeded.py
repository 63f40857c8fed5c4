"""Runs put into a served DATA through the services: `python -m tests.browser.seeded` prints their ids as JSON.

`python -m tests.browser.seeded push RUN FIRST LAST` pushes more lines of a live one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "orchestrator.settings")

POINTS = 1_000_000
GAP = (400_000, 450_000)
"""Steps of the long run that were never logged."""
NAN_STEPS = (250_000, 250_001, 600_123)
INFINITE = {700_000: "Infinity", 710_000: "-Infinity"}
SPIKE = 333_333
PUSH = 5000
PAUSE = 7200
"""Seconds between the two attempts of the resumed run."""


def main() -> None:
    """Seed, or push."""
    django.setup()
    if sys.argv[1:2] == ["push"]:
        run_id, first, last = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        lines_push(
            run_id, [line(seq, seq, time.time(), {"loss": 1.0}) for seq in range(first, last + 1)]
        )
        return
    print(
        json.dumps(
            {"long": long_run(), "resumed": resumed_run(), "new": new_run(), "live": live_run()}
        )
    )


def line(seq: int, step: int, moment: float, values: dict[str, Any]) -> dict[str, Any]:
    """A metrics line."""
    return {"seq": seq, "time": moment, "type": "metrics", "step": step, "values": values}


def lines_push(run_id: str, lines: list[dict[str, Any]], attempt: int = 1) -> None:
    """Push lines as ship does."""
    from orchestrator.services.ingest import push_ingest
    from orchestrator.services.stream_health import counts_write

    for at in range(0, len(lines), PUSH):
        part = lines[at : at + PUSH]
        push_ingest(
            run_id=run_id, attempt=attempt, source="trainer", first=part[0]["seq"], events=part
        )
    counts_write(run_id=run_id, attempt=attempt)


def run_make(name: str, **facts: Any) -> Any:
    """A run of the first account, with an attempt unless its number is 0."""
    from orchestrator.models import Attempt, Run, User

    spec = {
        "name": name,
        "objective": {"type": "sft"},
        "data": {"train": [{"source": "arithmetic"}]},
    }
    words = {"attempt": 1, "process": "alive", "state": "running", "started": began(), **facts}
    run = Run.objects.create(
        name=name, owner=User.objects.order_by("pk").first(), spec=spec, **words
    )
    for number in range(1, run.attempt + 1):
        Attempt.objects.create(run=run, number=number)
    return run


def began() -> datetime:
    """When the seeded runs began."""
    return datetime.now(UTC) - timedelta(hours=6)


def ended(run: Any) -> None:
    """The run ran all its steps, and everything has arrived."""
    from orchestrator.models import Run

    facts = {"process": "exited", "cause": "finished", "state": "finished", "complete": True}
    Run.objects.filter(pk=run.pk).update(**facts, ended=datetime.now(UTC))


def long_run() -> str:
    """A million points of one metric, with a spike, NaN, infinities, and steps that are missing."""
    run, start = run_make("one million points"), began().timestamp()
    seq, step, lines = 0, 0, []
    while seq < POINTS:
        step = GAP[1] + 1 if step + 1 == GAP[0] else step + 1
        seq += 1
        value: Any = 2.0 / (1 + step / 200_000) + 0.1 * ((step * 7919) % 1000) / 1000
        if step == SPIKE:
            value = 9.5
        value = "NaN" if step in NAN_STEPS else INFINITE.get(step, value)
        values = {"loss": value}
        if step % 1000 == 1:
            values["num_tokens"] = step * 64
        lines.append(line(seq, step, start + step * 0.01, values))
        if len(lines) == 100_000:
            lines_push(run.pk, lines)
            lines = []
    lines_push(run.pk, lines)
    ended(run)
    return str(run.pk)


def resumed_run() -> str:
    """Two attempts: the second one logs the last hundred steps again, two hours later."""
    run, start = run_make("resumed", attempt=2), began().timestamp()
    first: list[dict[str, Any]] = [
        {"seq": 1, "time": start, "type": "status", "state": "running", "step": 0}
    ]
    for step in range(1, 301):
        values = {"loss": 3.0 - step / 200, "num_tokens": step * 100}
        first.append(line(step + 1, step, start + step, values))
    stop = {"type": "status", "state": "stopped", "step": 300, "cause": "user", "message": ""}
    first.append({"seq": 302, "time": start + 301, **stop})
    lines_push(run.pk, first)
    again = [{"seq": 1, "time": start + PAUSE, "type": "status", "state": "running", "step": 200}]
    for seq in range(2, 402):
        step = 199 + seq - 1
        value: Any = "NaN" if step == 350 else 2.0 - step / 400
        again.append(
            line(seq, step, start + PAUSE + seq, {"loss": value, "num_tokens": step * 100})
        )
    lines_push(run.pk, again, attempt=2)
    ended(run)
    return str(run.pk)


def new_run() -> str:
    """A paused run that no node has had yet."""
    return str(
        run_make(
            "no attempt yet",
            attempt=0,
            process="none",
            state="paused",
            desired="pause",
            started=None,
        ).pk
    )


def live_run() -> str:
    """A run under way whose ship has lines left, and whose node's clock is ahead."""
    from orchestrator.services.beats import beat_note
    from orchestrator.services.entries import PushError
    from orchestrator.services.ingest import push_ingest

    run, now = run_make("under way"), time.time() + 3.2
    words: dict[str, Any] = {"run_id": run.pk, "attempt": 1, "source": "trainer"}
    lines = [line(s, s, now - 0.02, {"loss": 1.0}) for s in range(1, 41)]
    for first, last in ((1, 20), (11, 20), (31, 40), (21, 30)):
        push_ingest(**words, first=first, events=lines[first - 1 : last])
    with contextlib.suppress(PushError):
        push_ingest(**words, first=31, events=[{"seq": 31, "time": now, "type": "dance"}])
    journals = {"trainer": [55, 8800, 0], "samples": [0, 0, 0], "host": [0, 0, 0]}
    beat_note(run_id=run.pk, attempt=1, journals=journals, clock=[3.2, 0.004])
    return str(run.pk)


if __name__ == "__main__":
    main()
