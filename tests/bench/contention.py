"""What a busy neighbour costs a training step: two threads of torch beside a process that computes.

    python tests/bench/contention.py [--steps 40] [--limit 1.5]

Known bug 50: OpenMP threads that spin while they wait take the processor from each other and from the
neighbour. Prints the median step in milliseconds, alone and beside the neighbour, with the environment that
host gives a trainer and with spinning threads, and exits with 1 when the former slows down by more than
`limit`. The neighbour takes a processor of its own; on a machine of two, two thirds of the speed is fair.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.children import threads
from trainer.rundir import RunDir

NEIGHBOUR = "while True: sum(range(10000))"
STEP = """
import sys, time
from statistics import median
import torch
torch.set_num_threads(2)
torch.manual_seed(0)
layers = [torch.nn.Linear(256, 256) for _ in range(8)]
model = torch.nn.Sequential(*layers)
optimizer = torch.optim.AdamW(model.parameters())
x = torch.randn(512, 256)
times = []
for _ in range(int(sys.argv[1])):
    start = time.perf_counter()
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
    times.append(time.perf_counter() - start)
print(1000 * median(times[2:]))
"""


def environment(*, passive: bool) -> dict[str, str]:
    """As host gives it to a trainer of two threads, or with threads that spin."""
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        found = {**os.environ, **threads(RunDir(Path(folder)))}
    found["OMP_NUM_THREADS"] = found["MKL_NUM_THREADS"] = "2"
    if not passive:
        found["OMP_WAIT_POLICY"] = "ACTIVE"
    return found


def measure(steps: int, *, passive: bool, beside: bool) -> float:
    """Median milliseconds of a step."""
    neighbour = subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) if beside else None
    try:
        done = subprocess.run(
            [sys.executable, "-c", STEP, str(steps)],
            env=environment(passive=passive),
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if neighbour is not None:
            neighbour.kill()
            neighbour.wait()
    return float(done.stdout)


def slowdown(steps: int, *, passive: bool) -> tuple[float, float]:
    """Median step alone and beside the neighbour."""
    alone = measure(steps, passive=passive, beside=False)
    return alone, measure(steps, passive=passive, beside=True)


def main() -> None:
    """Measure both ways, report, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--limit", type=float, default=1.5)
    given = parser.parse_args()
    found = {}
    for label, passive in (("as host starts it", True), ("spinning threads", False)):
        alone, beside = slowdown(given.steps, passive=passive)
        found[label] = beside / alone
        print(
            f"{label:18} alone {alone:8.1f} ms   beside {beside:8.1f} ms   x {beside / alone:.2f}"
        )
    load = os.getloadavg()[0]
    print(f"load average {load:.2f} on {os.cpu_count()} processors")
    if found["as host starts it"] > given.limit:
        sys.exit(f"slower than {given.limit} times beside a neighbour")


if __name__ == "__main__":
    main()
