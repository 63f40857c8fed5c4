"""A run killed again and again ends as the run that nobody touched, to the last bit.

`ANNEAL_SCALE=1` kills each of the four kinds twenty times, the default twenty times in all. Steps are drawn
at random over the whole training; one kill in three is aimed into a save, one at a checkpoint between two
optimizer steps of one rollout batch. The runs cross epoch edges: 10 rows, 4 a step.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.trainer.engine.support import TINY
from trainer.engine import checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from tests.trainer.engine.support import Runs

KILLS = max(5, round(20 * float(os.environ.get("ANNEAL_SCALE") or 0.2)))
STEPS = 8 * KILLS
KINDS = {
    "grpo": [
        "objective.type=grpo",
        "objective.beta=0.05",
        "batch.updates_per_rollout=2",
        "rollout.top_p=0.9",
    ],
    "sft": ["objective.type=sft"],
    "dpo": ["objective.type=dpo", "objective.sft_weight=0.5"],
    "lora": ["objective.type=dpo", "adapter.type=lora", "adapter.r=4"],
}
# Odd on purpose: a save falls between the two updates of a rollout batch as often as behind them.
KEYS = [
    f"budget.max_steps={STEPS}",
    "checkpoint.every_steps=3",
    "checkpoint.keep_last=2",
    "evaluation.every_steps=5",
]

# A tiny model steps and saves faster than anybody could aim.
SLOW = """
import os, sys, time
from trainer.engine import loop, checkpoint
step, write = loop.Loop._step, checkpoint._write_state
def slow_step(self):
    time.sleep(0.02)
    step(self)
def slow_write(folder, snapshot):
    time.sleep(0.03)
    write(folder, snapshot)
    time.sleep(0.03)
loop.Loop._step, checkpoint._write_state = slow_step, slow_write
from trainer.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


class Victim:
    """One attempt in a process of its own."""

    def __init__(self, runs: Runs, name: str, arguments: list[str]) -> None:
        self.run = runs.dir(name)
        self.journal = self.run.attempt(self.run.next_attempt()).journal("trainer")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def wait_until(self, seen: Any) -> bool:
        """Whether it came to pass before the process ended."""
        deadline = time.monotonic() + 120
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if seen():
                return True
            time.sleep(0.001)
        return False

    def step(self) -> int:
        """The step whose metrics were written last."""
        if not self.journal.exists():
            return 0
        found = re.findall(rb'"type":"metrics","step":(\d+)', self.journal.read_bytes())
        return int(found[-1]) if found else 0

    def saved(self) -> int:
        """The step of the newest checkpoint."""
        return max(self.run.checkpoint_steps(), default=0)

    def saves(self) -> bool:
        folder = self.run.checkpoints
        return folder.is_dir() and any(".tmp-" in path.name for path in folder.iterdir())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()


def killed_run(runs: Runs, kind: str, draw: random.Random) -> dict[str, int]:
    """Run it, killing; returns how many kills there were and what they hit."""
    count = {"kills": 0, "in a save": 0, "between two updates": 0}
    arguments = ["run", str(runs.spec_path), "--dir", str(runs.folder / "killed"), *KINDS[kind]]
    arguments += KEYS
    while count["kills"] < KILLS:
        victim = Victim(runs, "killed", arguments)
        aim, target = count["kills"] % 3, victim.saved() + draw.randint(1, 8)
        if victim.wait_until(lambda v=victim, t=target: v.step() >= t):
            if aim == 1:
                victim.wait_until(victim.saves)
            if aim == 2:
                victim.wait_until(lambda v=victim: v.saved() % 2 == 1)
            time.sleep(draw.uniform(0, 0.05))
        over = victim.process.poll() is not None
        victim.kill()
        if over:
            return count
        count["kills"] += 1
        count["in a save"] += victim.saves()
        count["between two updates"] += _mid_batch(victim.run)
        arguments = ["resume", str(runs.folder / "killed")]
    return count


def _mid_batch(run: Any) -> bool:
    found = checkpoint.newest(run, lambda sentence: None)
    return found is not None and bool(checkpoint.read(found).state["updates_done"])


def weights_of(folder: Path) -> dict[str, bytes]:
    """Every tensor file, and the counters less the wall time."""
    found = {p.name: p.read_bytes() for p in sorted(folder.rglob("*.safetensors"))}
    raw = json.loads((folder / "trainer" / "state.json").read_text())
    raw["state"]["elapsed"] = 0
    found["state.json"] = json.dumps(raw, sort_keys=True).encode()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_killed_at_any_moment_ends_as_the_calm_run(runs: Runs, kind: str) -> None:
    assert runs.run("calm", *KINDS[kind], *KEYS) == 0
    draw = random.Random(f"{kind}{os.environ.get('ANNEAL_SEED', '')}")
    count = killed_run(runs, kind, draw)
    assert count["kills"] >= 2 and count["in a save"] >= 1, count
    if "batch.updates_per_rollout=2" in KINDS[kind]:
        assert count["between two updates"] >= 1, count
    if runs.end("killed", runs.dir("killed").attempts()[-1]).get("state") != "finished":
        assert runs.resume("killed") == 0
    calm, killed = runs.dir("calm").checkpoint(STEPS), runs.dir("killed").checkpoint(STEPS)
    assert weights_of(killed) == weights_of(calm)
    assert runs.metrics("killed") == runs.metrics("calm")
    assert STEPS * TINY["batch"]["prompts_per_step"] > 3 * TINY["data"]["train"][0]["limit"]
    print(f"{kind}: {count}")
