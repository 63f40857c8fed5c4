"""A whole run that samples with vLLM, as people start it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.journal import read_events

pytestmark = [pytest.mark.vllm, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
STEPS = 25


def trainer(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


@pytest.mark.parametrize("adapter", ["none", "lora"])
def test_grpo_learns_from_what_vllm_samples_and_goes_on_after_a_stop(tmp_path, adapter):
    recipe, folder = str(ROOT / "trainer/recipes/noisy_sort_grpo.toml"), tmp_path / "run"
    words = ["rollout.engine=vllm", f"adapter.type={adapter}", "evaluation.every_steps=0"]
    lora = ["adapter.r=8", "optimizer.lr=3e-3"] if adapter == "lora" else []
    done = trainer(
        "run", recipe, f"--dir={folder}", *words, *lora, f"budget.max_steps={STEPS}",
        "checkpoint.every_steps=10", "evaluation.every_steps=10",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    events = list(read_events(folder / "attempt-1" / "journal.jsonl"))
    told = [e["data"] for e in events if e["type"] == "status" and "rollout_engine" in e["data"]]
    assert [data["rollout_engine"] for data in told] == ["vllm"]
    metrics = {
        e["step"]: e["values"] for e in events if e["type"] == "metrics" and "reward" in e["values"]
    }
    assert sorted(metrics) == list(range(1, STEPS + 1))
    for step, values in metrics.items():
        # One update per batch: the trainer's policy is the one that sampled.
        assert values["rollout/logp_diff_max"] < 1e-3, step
        assert values["ess"] == pytest.approx(1, abs=1e-4), step
        assert 0 < values["entropy"] < 5
        assert values["time/sync"] > 0 and values["time/rollout"] > 0
    first = sum(metrics[step]["reward"] for step in range(1, 6)) / 5
    last = sum(metrics[step]["reward"] for step in range(STEPS - 4, STEPS + 1)) / 5
    assert last > first + 0.1
    spec = json.loads((folder / "spec.json").read_text())["spec"]
    assert spec["rollout"]["engine"] == "vllm"

    more = trainer("resume", str(folder), f"budget.max_steps={STEPS + 3}")
    assert more.returncode == 0, more.stdout[-2000:] + more.stderr[-2000:]
    again = [
        e for e in read_events(folder / "attempt-2" / "journal.jsonl") if e["type"] == "metrics"
    ]
    assert max(e["step"] for e in again) == STEPS + 3


def test_a_model_that_vllm_cannot_run_is_refused_with_a_sentence(tmp_path):
    """Heads of 16 values: its kernels for CPUs have none so narrow."""
    recipe = str(ROOT / "trainer/recipes/noisy_sort_grpo.toml")
    done = trainer(
        "run", recipe, f"--dir={tmp_path / 'run'}", "rollout.engine=vllm", "model.warm_start=",
        "model.options.hidden_size=32", "model.options.heads=2",
    )  # fmt: skip
    assert done.returncode == 2
    assert "rollout.engine: vLLM cannot run this model" in done.stderr
    assert "use native" in done.stderr
