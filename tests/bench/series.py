"""How fast a long curve is answered: `python -m tests.bench.series [--points 1000000] [--requests 60]`.

One series of so many points goes in by pushes and is packed as the control worker packs; then `/series` is
asked over HTTP, by turns along each axis and for a zoom. Prints p50 and p95 of the whole request, and what a
request without a curve takes.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

from tests.bench.served import Served, run_make, served

if TYPE_CHECKING:
    from orchestrator.models import Run

LINES = 2000  # of a push


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=60, help="of each kind")
    given = parser.parse_args()
    with served() as server:
        run = load(given.points)
        print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        measure(server, run, given.points, given.requests)


def load(points: int) -> Run:
    """A run whose `loss` has so many points, and its count of tokens as well."""
    from orchestrator.models import Run
    from orchestrator.services.compaction import pack
    from orchestrator.services.ingest import push_ingest

    run = run_make("long")
    for first in range(1, points + 1, LINES):
        last = min(points, first + LINES - 1)
        events = [line(seq) for seq in range(first, last + 1)]
        push_ingest(run_id=run.pk, attempt=1, source="trainer", first=first, events=events)
        pack(run_id=run.pk, attempt=1)
    return Run.objects.get(pk=run.pk)


def line(seq: int) -> dict[str, Any]:
    value = "NaN" if seq % 99_991 == 0 else (seq * 7919) % 1000003 / 997
    values = {"loss": value, "num_tokens": 512.0 * seq}
    time = 1e9 + seq * 0.25 + (seq * 31 % 17) / 100
    return {"seq": seq, "time": time, "type": "metrics", "step": seq, "values": values}


def measure(server: Served, run: Run, points: int, requests: int) -> None:
    """Ask in turn, report each kind."""
    middle = points // 2
    kinds = {
        "by step": "keys=loss",
        "by time": "keys=loss&x=time",
        "by tokens": "keys=loss&x=tokens",
        "zoom to a tenth": f"keys=loss&from={middle}&to={middle + points // 10}",
        "zoom to 1,000 points": f"keys=loss&from={middle}&to={middle + 999}",
        "no curve": "keys=nothing",
    }
    headers = {"Authorization": f"Bearer {server.token()}"}
    waits: dict[str, list[float]] = {kind: [] for kind in kinds}
    shown: dict[str, dict[str, Any]] = {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for turn in range(requests + 2):
        for kind, query in kinds.items():
            begun = time.perf_counter()
            connection.request(
                "GET", f"/api/runs/{run.pk}/series?{query}&points=1500", headers=headers
            )
            answer = connection.getresponse()
            body = answer.read()
            took = time.perf_counter() - begun
            assert answer.status == 200, body
            [curve] = json.loads(body).values()
            assert len(curve["x"]) <= 2000
            assert shown.setdefault(kind, curve) == curve, "the same question had two answers"
            if turn >= 2:
                waits[kind].append(took * 1e3)
    for kind, found in waits.items():
        found.sort()
        total, drawn = shown[kind]["total"], len(shown[kind]["x"])
        print(
            f"{kind:>22}: p50 {statistics.median(found):6.1f} ms, "
            f"p95 {found[int(len(found) * 0.95)]:6.1f} ms; {total:,} points, {drawn:,} drawn, "
            f"{shown[kind]['nan']} NaN"
        )


if __name__ == "__main__":
    main()
