"""How many points a second arrive end to end, and how that compares with other trackers.

    python -m tests.bench.ingest [--peers PYTHON] [--points 1000000] [--repeats 3]
    python -m tests.bench.ingest --soak 600

Journals that are written beforehand go through real `trainer.ship` processes, daphne and PostgreSQL; a point
counts when it is stored and acknowledged. In the same run a client with one push in flight measures the
acknowledgement. `--peers` names a Python that has tests/bench/peers.txt installed: MLflow's `log_batch` into
its local store and Trackio's bulk log take turns with ours. `--soak` pushes for so many seconds and prints
what the web process holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.bench.served import Served, run_make, served
from trainer.events import encode
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = 20  # metrics a step
PUSH = 500  # points of a push of the client that measures acknowledgements
PACE = 0.05  # seconds between its pushes
SHIPS = 2
ALONE = 10.0  # seconds
PEERS = Path(__file__).with_name("peers.py")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1_000_000, help="of each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", help="a Python with the peers installed")
    parser.add_argument("--soak", type=float, default=0.0, help="seconds; nothing else is measured")
    given = parser.parse_args()
    with served() as server:
        if given.soak:
            soak(server, given.soak)
        else:
            compare(server, given.points, given.repeats, given.peers)


def compare(server: Served, points: int, repeats: int, peers: str | None) -> None:
    """Ours and the peers in turn; medians."""
    rates: dict[str, list[float]] = {}
    waits: list[float] = []
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    for repeat in range(repeats):
        rate, found = ship_for(server, points, repeat)
        rates.setdefault("anneal", []).append(rate)
        waits += found
        print(f"{'anneal':>20}: {rate:>10,.0f} points/s, {SHIPS} ships", flush=True)
        for peer in ("mlflow", "trackio") if peers else ():
            words = [str(peers), str(PEERS), peer]
            told = subprocess.run(words, capture_output=True, text=True, check=False)
            if told.returncode:
                raise SystemExit(told.stderr)
            rates.setdefault(peer, []).append(float(told.stdout.split()[-1]))
            print(f"{peer:>20}: {rates[peer][-1]:>10,.0f} points/s", flush=True)
    ours = statistics.median(rates["anneal"])
    for name, found in rates.items():
        rate = statistics.median(found)
        print(f"{name:>20}: median {rate:>10,.0f} points/s, ours is {ours / rate:.1f} times that")
    print(f"{PUSH} points every {PACE * 1e3:.0f} ms beside the ships: {spread(waits)}")
    for size in (500, 2500):
        alone(server, size)


def alone(server: Served, size: int) -> None:
    """One client with one push in flight, as fast as it can."""
    run_make(f"alone-{size}")
    over, waits = threading.Event(), []
    threading.Timer(ALONE, over.set).start()
    pushed = client(server.port, f"alone-{size}", over, waits, size, pace=0.0)
    rate = asyncio.run(pushed) / ALONE
    print(f"one client, {size} points a push: {rate:,.0f} points/s; {spread(waits)}")


def spread(waits: list[float]) -> str:
    waits.sort()
    p50, p99 = statistics.median(waits) * 1e3, waits[int(len(waits) * 0.99)] * 1e3
    return f"acknowledged after p50 {p50:.1f} ms, p99 {p99:.1f} ms, {len(waits)} pushes"


def ship_for(server: Served, points: int, repeat: int) -> tuple[float, list[float]]:
    """Points a second of some ships together, and the waits of a client beside them."""
    from django.db import connection
    from django.db.models import Sum

    from orchestrator.models import Block, Chunk, Stream

    steps = points // KEYS // SHIPS
    names = [f"ship-{repeat}-{number}" for number in range(SHIPS)]
    runs = {name: run_make(name) for name in names}
    folders = {name: attempt_write(server, name, steps) for name in names}
    waits, over = [], threading.Event()
    beside = threading.Thread(
        target=lambda: asyncio.run(client(server.port, f"client-{repeat}", over, waits))
    )
    run_make(f"client-{repeat}")
    beside.start()
    time.sleep(1)
    ships = [
        subprocess.Popen(
            [sys.executable, "-m", "trainer.ship", "--dir", str(folder), "--attempt", "1"],
            stderr=subprocess.DEVNULL,
        )
        for folder in folders.values()
    ]
    # From the first stored line on: starting an interpreter is not the server's work.
    streams = Stream.objects.filter(run__in=runs.values(), source="trainer")
    while not (begun_at := streams.aggregate(n=Sum("cursor"))["n"] or 0):
        time.sleep(0.005)
    begun, worked = time.perf_counter(), sum(server.web.cpu_times()[:2])
    while (done := streams.aggregate(n=Sum("cursor"))["n"]) < steps * SHIPS:
        time.sleep(0.02)
        assert all(ship.poll() in (None, 0) for ship in ships)
    took = time.perf_counter() - begun
    worked = sum(server.web.cpu_times()[:2]) - worked
    print(
        f"{'web process':>20}: {worked / (done - begun_at) / KEYS * 1e6:.2f} s of CPU a million points"
    )
    over.set()
    beside.join()
    for ship in ships:
        ship.wait(30)
    of_ours = {"run__in": runs.values()}
    held = Chunk.objects.filter(**of_ours).aggregate(n=Sum("points"))["n"] or 0
    held += Block.objects.filter(series__run__in=runs.values()).aggregate(n=Sum("count"))["n"] or 0
    assert held == done * KEYS, (held, done)
    connection.close()
    return (done - begun_at) * KEYS / took, waits


def attempt_write(server: Served, name: str, steps: int) -> Path:
    """A run directory whose journals are complete."""
    attempt = RunDir(server.folder / name).attempt(1)
    attempt.path.mkdir(parents=True)
    attempt.lease.write_text(json.dumps({"server": f"ws://127.0.0.1:{server.port}", "token": name}))
    with attempt.journal("trainer").open("w") as journal:
        for step in range(1, steps + 1):
            journal.write(encode(line(step)) + "\n")
    ended = {"seq": 1, "time": 1e9, "type": "status", "state": "finished", "cause": "finished"}
    attempt.journal("host").write_text(encode(ended) + "\n")
    return attempt.path.parent


def line(step: int) -> dict[str, Any]:
    values = {f"key{n}": (step * 7919 + n * 104729) % 1000003 / 997 for n in range(KEYS)}
    return {"seq": step, "time": 1e9 + step, "type": "metrics", "step": step, "values": values}


async def client(
    port: int,
    token: str,
    over: threading.Event,
    waits: list[float],
    size: int = PUSH,
    pace: float = PACE,
) -> int:
    """Push now and then, one push in flight, until it is over; how many points were acknowledged."""
    connection = await connected(port, token)
    seq = 0
    for frame, last in frames(size):
        if over.is_set():
            break
        sent = time.perf_counter()
        await connection.send(frame)
        while (answer := json.loads(await connection.recv())).get("op") != "ack":
            pass
        waits.append(time.perf_counter() - sent)
        assert answer["cursor"] == last
        seq = last
        await asyncio.sleep(pace)
    await connection.close()
    return seq * KEYS


def frames(points: int = PUSH) -> Iterator[tuple[str, int]]:
    """Pushes of so many points, and the last seq of each."""
    first, lines = 1, points // KEYS
    while True:
        events = ",".join(encode(line(first + n)) for n in range(lines))
        yield (
            f'{{"op":"push","source":"trainer","first":{first},"events":[{events}]}}',
            first + lines - 1,
        )
        first += lines


def soak(server: Served, seconds: float) -> None:
    """Push as fast as one client can, packing as the control worker does, and watch the memory."""
    from orchestrator.services.compaction import pack_due

    run_make("soak")
    over, seen = threading.Event(), [0]

    async def push() -> None:
        connection = await connected(server.port, "soak")
        for frame, last in frames(5000):
            await connection.send(frame)
            while json.loads(await connection.recv()).get("op") != "ack":
                pass
            seen[0] = last * KEYS
            if over.is_set():
                break

    pushing = threading.Thread(target=lambda: asyncio.run(push()))
    begun = time.perf_counter()
    pushing.start()
    marks = []
    while (now := time.perf_counter() - begun) < seconds:
        pack_due()
        if now >= len(marks) * seconds / 20:
            marks.append(server.web.memory_info().rss / 2**20)
            print(
                f"{now:6.0f} s {seen[0]:>12,} points, web process {marks[-1]:.1f} MiB", flush=True
            )
        time.sleep(0.5)
    over.set()
    pushing.join()
    warm, end = statistics.median(marks[2:6]), statistics.median(marks[-4:])
    print(
        f"{seen[0] / seconds:,.0f} points/s for {seconds:.0f} s; web process {warm:.1f} MiB early, "
        f"{end:.1f} MiB at the end ({(end / warm - 1) * 100:+.1f} %)"
    )


async def connected(port: int, token: str) -> Any:
    from websockets.asyncio.client import connect

    connection = await connect(
        f"ws://127.0.0.1:{port}/ws/node/",
        additional_headers={"Authorization": f"Bearer {token}"},
        compression=None,
        proxy=None,
        open_timeout=30,
    )
    assert json.loads(await connection.recv())["op"] == "hello"
    return connection


if __name__ == "__main__":
    main()
