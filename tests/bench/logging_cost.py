"""What logging costs a training step: journal lines written while ship cannot reach its server.

    python tests/bench/logging_cost.py [--steps 5000]

Prints the median and the 99th percentile, in milliseconds, of what one training step writes (a metrics
line of 40 values, every tenth step a batch of 64 samples), beside the physical limit of the same run: the same
bytes by a bare `os.write`. Ship runs all the while against a port where nobody answers. The third line is what the
execution plan costs besides: the clock's eight switches of part, and the line of spans, written every step.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer import spans
from trainer.events import encode
from trainer.journal import Journal
from trainer.rundir import RunDir, write_atomic
from trainer.spans import Lap, SpanLines

VALUES = {f"time/part_{number}": number * 0.123456789 for number in range(40)}
SAMPLE = {
    "step": 1,
    "prompt_id": "noisy-sort/12",
    "group": 3,
    "prompt": "sort 50316 = ",
    "completion": "01356",
    "token_ids": list(range(6)),
    "logps": [-0.1] * 6,
    "finish_reason": "stop",
    "reward": 1.0,
    "rewards": {"exact-match": 1.0},
    "advantage": 0.7,
}


def free_port() -> int:
    """A port of this machine where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure(folder: Path, steps: int) -> tuple[list[float], list[float]]:
    """Milliseconds per step: through the journal, and by bare writes of the same bytes."""
    attempt = RunDir(folder).attempt(1)
    journal, samples = Journal(attempt.journal("trainer")), Journal(attempt.journal("samples"))
    logged, bare = [], []
    descriptor = os.open(folder / "bare.bin", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    line = (
        encode({"seq": 1, "time": time.time(), "type": "metrics", "step": 1, "values": VALUES})
        + "\n"
    ).encode()
    sample_line = (
        encode({"seq": 1, "time": time.time(), "type": "sample", **SAMPLE}) + "\n"
    ).encode()
    for step in range(1, steps + 1):
        started = time.perf_counter()
        journal.append("metrics", step=step, values=VALUES)
        if step % 10 == 0:
            samples.extend("sample", [SAMPLE] * 64)
        logged.append((time.perf_counter() - started) * 1000)
        started = time.perf_counter()
        os.write(descriptor, line)
        if step % 10 == 0:
            os.write(descriptor, sample_line * 64)
        bare.append((time.perf_counter() - started) * 1000)
        # A training step takes far longer than a line; give ship its share of the machine.
        time.sleep(0.002)
    os.close(descriptor)
    return logged, bare


def measure_spans(folder: Path, steps: int) -> list[float]:
    """Milliseconds per step of noting eight phases and writing their line, as often as that is possible."""
    spans.EVERY = 0.0
    journal, lines, spent = Journal(RunDir(folder).attempt(2).journal("trainer")), SpanLines(), []
    phases = ("sync", "rollout", "reward", "logprob", "reward", "other", "update", "other")
    for step in range(1, steps + 1):
        started = time.perf_counter()
        lap = Lap()
        for place, phase in enumerate(phases):
            time.perf_counter()  # the clock reads it at each switch
            lap.add(phase, step + place / 10, step + (place + 1) / 10)
        fields = lines.line(step, spans.TRAINER, lap.spans())
        assert fields is not None
        journal.append("spans", **fields)
        spent.append((time.perf_counter() - started) * 1000)
        time.sleep(0.002)
    return spent


def main() -> None:
    """Run ship against a dead server, write, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=5000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as name:
        folder = Path(name)
        attempt = RunDir(folder).attempt(1)
        attempt.path.mkdir()
        lease = {"server": f"ws://127.0.0.1:{free_port()}", "token": "nobody"}
        write_atomic(attempt.lease, json.dumps(lease), mode=0o600)
        ship = subprocess.Popen(
            [sys.executable, "-m", "trainer.ship", "--dir", str(folder), "--attempt", "1"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(1.0)
            logged, bare = measure(folder, steps)
            planned = measure_spans(folder, steps)
            alive = ship.poll() is None
        finally:
            ship.kill()
            ship.wait()
    for label, values in (("journal", logged), ("bare write", bare), ("spans", planned)):
        print(
            f"{label:12} median {median(values):.3f} ms   p99 {quantiles(values, n=100)[98]:.3f} ms"
        )
    print(f"ratio of medians {median(logged) / median(bare):.1f}, ship alive throughout: {alive}")


if __name__ == "__main__":
    main()
