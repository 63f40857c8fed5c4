"""Trainings in two real processes under host: they end as one would, and no death leaves anybody behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from transformers import AutoModelForCausalLM

from tests.trainer.engine.conftest import _signals, stop_after
from tests.trainer.engine.support import TINY, Runs, tiny_spec
from trainer import followers
from trainer.children import ATTEMPT_VARIABLE
from trainer.control import Control
from trainer.engine import checkpoint
from trainer.engine.failure import Failure
from trainer.followers import Followers
from trainer.journal import read_events
from trainer.processes import processes_with
from trainer.specfile import with_overrides

__all__ = ["_signals", "stop_after"]

ROOT = Path(__file__).parents[2]
TWO = ["resources.gpus=0", "resources.processes=2"]
FULL = [*TWO, "resources.sharding=full"]
RATES = ("time/", "tokens/", "mfu", "rss_mb", "batch/pad_frac")
LAST = TINY["budget"]["max_steps"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Runs of this file, among them "one": a training in one process that the others are compared with."""
    folder = tmp_path_factory.mktemp("runs")
    warm = folder / "warm.json"
    warm.write_text(json.dumps(with_overrides(TINY, ["objective.type=sft", "budget.max_steps=2"])))
    found = Runs(folder)
    found.options = [
        "objective.type=grpo",
        "objective.beta=0.05",
        "batch.updates_per_rollout=2",
        f"model.warm_start={warm}",
    ]
    return found


@pytest.fixture(scope="module")
def one(tiny):
    assert tiny.run("one", *tiny.options) == 0
    return "one"


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


def stalled(run) -> dict | None:
    events = read_events(run.attempt(1).journal("host"))
    return next((event for event in events if event.get("code") == "stall"), None)


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
@pytest.mark.parametrize("kind", [TWO, FULL], ids=["a copy each", "divided"])
def test_two_hosted_processes_train_as_one(tiny, one, kind):
    """A warm-up before it."""
    name = f"two-{len(kind)}"
    started(tiny, name, *kind, *tiny.options).wait(90)
    run = tiny.dir(name)
    assert host_word(run)["state"] == "finished", host_word(run)
    assert family(run) == []
    said = [event for event in tiny.events(name) if event.get("data", {}).get("processes")]
    assert said[-1]["data"]["processes"] == 2 and "2 processes" in said[-1]["message"]
    assert_same_training(tiny, one, name)
    if kind is TWO:
        return
    assert said[-1]["data"]["sharding"] == "full"
    assert_whole(run.checkpoint(4))
    # It goes on from there in one process, to the same end.
    shutil.rmtree(run.checkpoint(LAST))
    assert tiny.resume(name, "resources.processes=0", "resources.sharding=none") == 0
    done = [event["step"] for event in tiny.events(name, 2) if "loss" in event.get("values", {})]
    assert done == [5, 6]
    assert_same_training(tiny, one, name)


def assert_whole(folder: Path) -> None:
    """A divided run's checkpoint: in parts, complete, and a model that plain transformers loads."""
    index = json.loads((folder / "trainer" / "parts.json").read_text())
    assert index["files"] == ["part-0.safetensors", "part-1.safetensors"]
    assert all((folder / "trainer" / name).stat().st_size > 1000 for name in index["files"])
    assert [path.name for path in folder.parent.iterdir() if "tmp" in path.name] == []
    assert checkpoint.damage(folder) == ""
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert all(bool(value.isfinite().all()) for value in model.parameters())


@pytest.mark.slow
def test_what_one_process_saved_goes_on_divided_among_two(tiny, one, stop_after):
    """In the middle of a rollout batch."""
    stop_after(tiny.dir("more"), 1, 3, Control("stop"))
    assert tiny.run("more", *tiny.options) == 3
    resumed(tiny, "more", *FULL).wait(90)
    assert tiny.end("more", 2)["state"] == "finished", tiny.end("more", 2)
    assert_same_training(tiny, one, "more")


@pytest.mark.slow
def test_the_hang_of_one_is_a_stall_and_its_death_ends_all_with_its_cause(tiny, monkeypatch):
    monkeypatch.setenv("ANNEAL_PROMISE", "6")
    host = started(tiny, "killed", *TWO, "budget.max_steps=100000", "evaluation.every_steps=0")
    run = tiny.dir("killed")
    other = follower(run)
    wait_for(lambda: steps_done(run) > 1, 60)
    other.suspend()
    stall = wait_for(lambda: stalled(run), 40)
    states = {one["pid"]: one["state"] for one in stall["data"]["processes"]}
    assert len(states) == 2 and states[other.pid] == "T"
    assert "ranks.py" in stall["data"]["stacks"], "the first one waits for it"
    began = time.monotonic()
    other.send_signal(signal.SIGKILL)
    host.wait(30)
    assert time.monotonic() - began < 30
    for word in (tiny.end("killed"), host_word(run)):
        assert (word["state"], word["cause"]) == ("failed", "killed")
        assert f"Rank 1 of 2 training processes (pid {other.pid}) ended first" in word["message"]
        assert "SIGKILL" in word["message"]
    assert family(run) == []


@pytest.mark.slow
def test_a_stop_saves_where_they_stand_and_leaves_nobody(tiny):
    """Divided: all of them take part in saving."""
    host = started(tiny, "stopped", *FULL, "budget.max_steps=100000", "evaluation.every_steps=0")
    run = tiny.dir("stopped")
    wait_for(lambda: steps_done(run) > 2, 60)
    Control("stop", "user", "stopped by ada").write(run.attempt(1).control)
    assert host.wait(30) == 3
    end = tiny.end("stopped")
    assert (end["state"], end["message"]) == ("stopped", "stopped by ada")
    assert run.checkpoint_steps()[-1] == end["step"] > 2
    assert checkpoint.damage(run.checkpoint(end["step"])) == ""
    assert family(run) == []


LEADER_THAT_HANGS = """
import sys, time
from pathlib import Path
from trainer import followers
from trainer.rundir import RunDir
from trainer.spec import spec_parse
followers.ENDS_WITHIN = 0.5
spec = {"objective": {"type": "sft"}, "resources": {"gpus": 0, "processes": 2}}
found = followers.Followers(RunDir(Path(sys.argv[1])).attempt(1), spec_parse(spec))
followers.sys.executable = sys.argv[2]
found.start()
time.sleep(600)
"""


def test_a_first_process_that_hangs_is_ended_and_host_tells_why(tiny, tmp_path):
    """Its thread ends it, also where it waits in a collective that nobody will ever answer."""
    ends = tmp_path / "ends-at-once"
    ends.write_text("#!/bin/sh\nexit 7\n")
    ends.chmod(0o755)
    run = tiny.dir("hangs")
    words = ["-m", "trainer.host", "--dir", str(run.path), "--attempt", "1", "--", sys.executable]
    command = [sys.executable, *words, "-c", LEADER_THAT_HANGS, str(run.path), str(ends)]
    assert subprocess.run(command, cwd=ROOT, timeout=30, check=False).returncode == -9 % 256
    word = host_word(run)
    assert (word["state"], word["cause"]) == ("failed", "crash")
    assert "Rank 1 of 2" in word["message"] and "exit code 7" in word["message"]


def test_fewer_gpus_than_asked_for_are_refused(tiny, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    spec = tiny_spec("resources.gpus=2")
    attempt = tiny.dir("none").attempt(1)
    with pytest.raises(
        Failure, match="2 are asked for and CUDA_VISIBLE_DEVICES lets this process see 1"
    ):
        Followers(attempt, spec).start()


def test_each_rank_is_given_its_gpu_and_what_torchrun_would_tell_it(tiny, monkeypatch):
    started = []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    monkeypatch.setattr(followers.os, "environ", dict(os.environ))
    monkeypatch.setattr(
        followers.subprocess, "Popen", lambda argv, **words: started.append(words["env"])
    )
    monkeypatch.setattr(Followers, "_watch", lambda self: None)
    found = Followers(tiny.dir("gpus").attempt(1), tiny_spec("resources.gpus=2"))
    found.start()
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES")
    assert [followers.os.environ[name] for name in names] == ["0", "0", "2", "127.0.0.1", "5"]
    assert [started[0][name] for name in names] == ["1", "1", "2", "127.0.0.1", "7"]
    assert int(started[0]["MASTER_PORT"]) == found.port == found.listening.getsockname()[1]
    assert started[0][followers.GPUS] == "2"
