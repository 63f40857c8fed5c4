"""How many points a second arrive end to end: `python -m tests.bench.ingest [--batch 500] [--seconds 5]`.

A DATA of its own, daphne in its own process, one node socket with one push in flight; then one curve is read.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TOKEN = "bench"
KEYS = 20  # metrics a step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=500, help="points in one push")
    parser.add_argument("--seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        os.chmod(folder, 0o755)  # the database's own account passes through
        os.environ |= {"ANNEAL_DATA_DIR": folder, "DJANGO_SETTINGS_MODULE": "orchestrator.settings"}
        from orchestrator import postgres

        os.environ["DATABASE_URL"] = postgres.ensure_running(Path(folder))
        try:
            measure(arguments.batch, arguments.seconds)
        finally:
            postgres.remove(Path(folder))


def measure(batch: int, seconds: float) -> None:
    """Prepare a run, start the server, push, read."""
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from orchestrator.models import Chunk, Run
    from orchestrator.selectors.series import points_after, series_read

    run = run_make()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "daphne", "-p", str(port), "orchestrator.asgi:application"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        count, took, waits = asyncio.run(push_for(port, batch, seconds))
    finally:
        server.terminate()
        server.wait()
    assert sum(Chunk.objects.values_list("points", flat=True)) == count
    p99 = sorted(waits)[int(len(waits) * 0.99)]
    print(
        f"{count / took:,.0f} points/s, {batch} a push; ack p50 {statistics.median(waits) * 1e3:.1f} ms, "
        f"p99 {p99 * 1e3:.1f} ms; {count:,} points"
    )
    run = Run.objects.get(pk=run.pk)
    begun = time.perf_counter()
    curve = series_read(run=run, keys=["key0"])["key0"]
    print(f"curve of {curve['total']:,} points: {(time.perf_counter() - begun) * 1e3:.0f} ms")
    begun = time.perf_counter()
    after = {"attempt": 1, "seq": count // KEYS - 10}
    points_after(run=run, keys=[f"key{n}" for n in range(12)], after=after)
    print(f"delta of 12 x 10 points: {(time.perf_counter() - begun) * 1e3:.1f} ms")


def run_make() -> Any:
    from orchestrator.models import Attempt, Run, User
    from orchestrator.services.tokens import digest_of

    ada = User.objects.create_user("ada")
    run = Run.objects.create(name="bench", owner=ada, spec={}, attempt=1, process="alive")
    Attempt.objects.create(run=run, number=1, lease_digest=digest_of(TOKEN))
    return run


async def push_for(port: int, batch: int, seconds: float) -> tuple[int, float, list[float]]:
    """Push for so long; points stored, seconds taken, and the wait for each ack."""
    line = await connected(port)
    seq, waits = 0, []
    begun = time.perf_counter()
    while time.perf_counter() - begun < seconds:
        events = []
        for number in range(seq + 1, seq + 1 + max(1, batch // KEYS)):
            values = {f"key{n}": number * 0.001 + n for n in range(KEYS)}
            events.append(
                {
                    "seq": number,
                    "time": 1e9 + number,
                    "type": "metrics",
                    "step": number,
                    "values": values,
                }
            )
        frame = json.dumps({"op": "push", "source": "trainer", "first": seq + 1, "events": events})
        sent = time.perf_counter()
        await line.send(frame)
        seq = json.loads(await line.recv())["cursor"]
        waits.append(time.perf_counter() - sent)
    took = time.perf_counter() - begun
    await line.close()
    return seq * KEYS, took, waits


async def connected(port: int) -> Any:
    from websockets.asyncio.client import connect

    for _ in range(100):
        try:
            line = await connect(
                f"ws://127.0.0.1:{port}/ws/node/",
                additional_headers={"Authorization": f"Bearer {TOKEN}"},
                compression=None,
                proxy=None,
            )
        except OSError:
            await asyncio.sleep(0.2)
        else:
            assert json.loads(await line.recv())["op"] == "hello"
            return line
    raise SystemExit("daphne did not start")


if __name__ == "__main__":
    main()
