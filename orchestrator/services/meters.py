"""What this process counts of its own work, for `/metrics`. Counters start again with the process."""

from __future__ import annotations

import os
import time
from collections import deque

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)

PROCESS = str(os.getpid())
"""Several web processes answer `/metrics`: what one of them counted carries its process id."""
WINDOW = 10  # seconds over which a rate is taken
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# A series with the time at which each counter began would double the number of series for nothing.
disable_created_metrics()  # type: ignore[no-untyped-call]
registry = CollectorRegistry()

_points = Counter(
    "anneal_ingest_points",
    "Metric values stored.",
    ["process"],
    registry=registry,
).labels(PROCESS)
_lines = Counter(
    "anneal_ingest_lines",
    "Journal lines stored, by journal.",
    ["process", "source"],
    registry=registry,
)
_pushes = Counter(
    "anneal_ingest_pushes",
    "Pushes by outcome: stored, repeated (stored before), early (a gap before it), refused (faulty).",
    ["process", "outcome"],
    registry=registry,
)
_ack = Histogram(
    "anneal_ingest_ack_seconds",
    "From a push's arrival at the consumer to its acknowledgement being sent.",
    ["process"],
    buckets=BUCKETS,
    registry=registry,
).labels(PROCESS)
_sockets = Gauge(
    "anneal_open_sockets",
    "Websockets that are let in and open, by kind: browser or node.",
    ["process", "kind"],
    registry=registry,
)
_rate = Gauge(
    "anneal_ingest_points_per_second",
    f"Metric values stored per second, over the last {WINDOW} whole seconds.",
    ["process"],
    registry=registry,
).labels(PROCESS)

OUTCOMES = ("stored", "repeated", "early", "refused")
for _outcome in OUTCOMES:
    _pushes.labels(PROCESS, _outcome)
for _kind in ("browser", "node"):
    _sockets.labels(PROCESS, _kind)


class PerSecond:
    """How many things happen a second, over a sliding window of whole seconds."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window = window
        self._seconds: deque[tuple[int, int]] = deque(maxlen=window + 1)

    def add(self, count: int, now: float) -> None:
        """Count things that happened at `now` (seconds)."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + count)
        else:
            self._seconds.append((second, count))

    def rate(self, now: float) -> float:
        """Things a second in the window that ended with the last whole second."""
        end = int(now)
        return (
            sum(n for s, n in list(self._seconds) if end - self._window <= s < end) / self._window
        )


_recent = PerSecond()
_rate.set_function(lambda: _recent.rate(time.monotonic()))


def push_counted(outcome: str, source: str, lines: int, points: int) -> None:
    """Count a push; lines and points count when they were stored."""
    _pushes.labels(PROCESS, outcome).inc()
    if outcome == "stored":
        _lines.labels(PROCESS, source).inc(lines)
        _points.inc(points)
        _recent.add(points, time.monotonic())


def ack_timed(seconds: float) -> None:
    """Note how long an acknowledgement took."""
    _ack.observe(seconds)


def socket_opened(kind: str) -> None:
    """Count one more open socket."""
    _sockets.labels(PROCESS, kind).inc()


def socket_closed(kind: str) -> None:
    """Count one open socket less."""
    _sockets.labels(PROCESS, kind).dec()
