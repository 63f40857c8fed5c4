"""Trainings in two real processes under host: they end as one would, and no death leaves anybody behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.trainer.engine.support import TINY, Runs
from trainer.children import ATTEMPT_VARIABLE
from trainer.control import Control
from trainer.journal import read_events
from trainer.processes import processes_with

ROOT = Path(__file__).parents[2]
TWO = ["resources.gpus=0", "resources.processes=2"]
FULL = [*TWO, "resources.sharding=full"]
BETA = ["objective.type=grpo", "objective.beta=0.05", "batch.updates_per_rollout=2"]
RATES = ("time/", "tokens/", "mfu", "rss_mb", "batch/pad_frac")
LAST = TINY["budget"]["max_steps"]


@pytest.fixture
def tiny(tmp_path):
    return Runs(tmp_path)


def hosted(run, *command: str, attempt: int = 1) -> subprocess.Popen[bytes]:
    words = ["-m", "trainer.host", "--dir", str(run.path), "--attempt", str(attempt)]
    return subprocess.Popen(
        [sys.executable, *words, "--", sys.executable, "-m", "trainer", *command],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def started(tiny, name: str, *overrides: str) -> subprocess.Popen[bytes]:
    run = tiny.dir(name)
    return hosted(
        run, "run", str(tiny.spec_path), "--dir", str(run.path), "--attempt", "1", *overrides
    )


def resumed(tiny, name: str, *overrides: str) -> subprocess.Popen[bytes]:
    run = tiny.dir(name)
    return hosted(run, "resume", str(run.path), "--attempt", "2", *overrides, attempt=2)


def family(run, attempt: int = 1) -> list[psutil.Process]:
    found = processes_with(ATTEMPT_VARIABLE, str(run.attempt(attempt).path.resolve()))
    return [psutil.Process(one.pid) for one in found if one.alive()]


def follower(run) -> psutil.Process:
    return wait_for(
        lambda: next((p for p in family(run) if "trainer.follower" in p.cmdline()), None), 30
    )


def wait_for(happened, seconds: float):
    deadline = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def steps_done(run) -> int:
    path = run.attempt(1).journal("trainer")
    events = read_events(path) if path.exists() else []
    return sum(event["type"] == "metrics" for event in events)


def curve(tiny, name: str) -> dict:
    return {key: value for key, value in tiny.metrics(name).items() if not key[1].startswith(RATES)}


def assert_same_training(tiny, one: str, two: str) -> None:
    """The same curve but for the last bits, which a sum has by its order."""
    first, second = curve(tiny, one), curve(tiny, two)
    assert first.keys() == second.keys() and len(first) > 50
    for key, value in first.items():
        assert second[key] == pytest.approx(value, rel=2e-3, abs=1e-5, nan_ok=True), key


def host_word(run, attempt: int = 1) -> dict:
    return list(read_events(run.attempt(attempt).journal("host")))[-1]


@pytest.mark.slow
def test_two_hosted_processes_train_as_one_and_their_checkpoint_goes_on_in_one(tiny):
    assert tiny.run("one", *BETA) == 0
    started(tiny, "two", *FULL, *BETA, "budget.max_steps=4").wait(90)
    run = tiny.dir("two")
    assert host_word(run)["state"] == "finished" and family(run) == []
    opening = [event for event in tiny.events("two") if event.get("data", {}).get("processes")]
    assert opening[-1]["data"]["sharding"] == "full"
    assert "2 processes, each with a part of the model" in opening[-1]["message"]
    config = json.loads((run.checkpoint(4) / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert not (run.checkpoint(4) / "trainer" / "rank-1").exists()
    assert (
        tiny.resume("two", "resources.processes=0", "resources.sharding=none", "budget.max_steps=6")
        == 0
    )
    assert_same_training(tiny, "one", "two")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [TWO, FULL], ids=["a copy each", "divided"])
def test_what_one_process_saved_goes_on_in_two(tiny, stop_after, kind):
    assert tiny.run("one", *BETA) == 0
    stop_after(tiny.dir("more"), 1, 3, Control("stop"))
    assert tiny.run("more", *BETA) == 3
    resumed(tiny, "more", *kind).wait(90)
    assert tiny.end("more", 2)["state"] == "finished"
    assert_same_training(tiny, "one", "more")


@pytest.mark.slow
def test_the_death_of_one_ends_all_with_its_cause(tiny):
    host = started(tiny, "killed", *TWO, "budget.max_steps=100000", "evaluation.every_steps=0")
    run = tiny.dir("killed")
    other = follower(run)
    wait_for(lambda: steps_done(run) > 1, 60)
    began = time.monotonic()
    other.send_signal(signal.SIGKILL)
    host.wait(30)
    assert time.monotonic() - began < 30
    for word in (tiny.end("killed"), host_word(run)):
        assert (word["state"], word["cause"]) == ("failed", "killed")
        assert f"Rank 1 of 2 training processes (pid {other.pid}) ended first" in word["message"]
        assert "SIGKILL" in word["message"]
    assert family(run) == []
