"""One training process against two on this machine's processor: GRPO on sorting digits, seconds a step.

    python tests/bench/ranks.py [--steps 12] [--hidden 256] [--tries 3]

Alternates one process, two with a copy of the model each, and two with the model divided (FSDP2), one thread per
process. Prints the median seconds of a step with what sampling and updating took of it, and how far the mean
rewards are apart from those of one process: they should be the same but for the last bits of sums.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from trainer.journal import read_events
from trainer.rundir import RunDir

ROOT = Path(__file__).parents[2]
WAYS = {
    "one process": ["resources.gpus=0"],
    "two, a copy each": ["resources.gpus=0", "resources.processes=2"],
    "two, divided": ["resources.gpus=0", "resources.processes=2", "resources.sharding=full"],
}
SKIPPED = 2
"""First steps, which compile and load."""


def spec(steps: int, hidden: int) -> dict[str, Any]:
    """16 prompts of 16 answers a step."""
    return {
        "model": {"options": {"hidden_size": hidden, "layers": 4, "heads": 4}},
        "data": {"train": [{"source": "noisy-sort", "limit": 512}], "eval": []},
        "objective": {"type": "grpo"},
        "rewards": [{"type": "length-window", "max_tokens": 8, "ramp": 8}],
        "rollout": {"group_size": 16, "max_new_tokens": 16},
        "batch": {"prompts_per_step": 16, "tokens_per_microbatch": 4096},
        "budget": {"max_steps": steps},
        "checkpoint": {"every_steps": 0},
    }


def measured(raw: dict[str, Any], way: list[str]) -> list[dict[str, float]]:
    """The metrics of each step of one training."""
    with tempfile.TemporaryDirectory(prefix="anneal-bench-") as folder:
        path = Path(folder) / "spec.json"
        path.write_text(json.dumps(raw))
        run = RunDir(Path(folder) / "run")
        subprocess.run(
            [sys.executable, "-m", "trainer", "run", str(path), "--dir", str(run.path), *way],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        events = list(read_events(run.attempt(1).journal("trainer")))
    return [event["values"] for event in events if event["type"] == "metrics"]


def main() -> None:
    """Measure each way in turn, report the medians over the steps of all tries."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--tries", type=int, default=3)
    given = parser.parse_args()
    raw = spec(given.steps, given.hidden)
    tries: dict[str, list[list[dict[str, float]]]] = {name: [] for name in WAYS}
    for _ in range(given.tries):
        for name, way in WAYS.items():
            tries[name].append(measured(raw, way))
    rewards = [step["reward"] for step in tries["one process"][0]]
    print(f"{'':18}{'s/step':>9}{'rollout':>9}{'update':>9}{'reward off by':>16}")
    for name, runs in tries.items():
        later = [step for steps in runs for step in steps[SKIPPED:]]
        parts = [
            median(step[f"time/{part}"] for step in later) for part in ("step", "rollout", "update")
        ]
        apart = max(
            abs(step["reward"] - one)
            for steps in runs
            for step, one in zip(steps, rewards, strict=True)
        )
        print(f"{name:18}" + "".join(f"{part:9.3f}" for part in parts) + f"{apart:16.2g}")


if __name__ == "__main__":
    main()
