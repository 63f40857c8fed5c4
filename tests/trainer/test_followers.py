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
from trainer.processes import processes_read, processes_with
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
        "schedule.type=constant",
        f"model.warm_start={warm}",
    ]
    return found


@pytest.fixture(scope="module")
def one(tiny):
    assert tiny.run("one", *tiny.options) == 0
    return "one"


@pytest.fixture(autouse=True)
def _nobody_is_left(tiny):
    """Also by a test that fails: its host would go on for ever."""
    yield
    for run in (tiny.dir(path.name) for path in tiny.folder.iterdir() if path.is_dir()):
        for attempt in run.attempts():
            for process in processes_read(run.attempt(attempt).processes).values():
                process.signal(signal.SIGKILL, group=True)


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
    # Those of the warm-up have names of their own.
    return max((e["step"] for e in events if "loss" in e.get("values", {})), default=0)


def stalled(run, pid: int) -> dict | None:
    """The alert of a stall in which this process was found stopped: a busy machine may have had others."""
    for event in read_events(run.attempt(1).journal("host")):
        if event.get("code") == "stall":
            states = {one["pid"]: one["state"] for one in event["data"]["processes"]}
            if states.get(pid) == "T":
                return event
    return None


def curve(tiny, name: str) -> dict:
    return {key: value for key, value in tiny.metrics(name).items() if not key[1].startswith(RATES)}


def assert_same_training(tiny, one: str, two: str) -> None:
    """The same curve but for the last bits, which a sum has by its order."""
    first, second = curve(tiny, one), curve(tiny, two)
    assert first.keys() == {key for key in second if key[0] <= LAST} and len(first) > 50
    for key, value in first.items():
        assert second[key] == pytest.approx(value, rel=2e-3, abs=1e-5, nan_ok=True), key


def host_word(run, attempt: int = 1) -> dict:
    return list(read_events(run.attempt(attempt).journal("host")))[-1]


@pytest.mark.slow
def test_a_divided_training_that_is_stopped_saves_and_goes_on_in_one_process(tiny, one):
    """A warm-up before it; all of them take part in saving."""
    host = started(tiny, "divided", *FULL, *tiny.options)
    run = tiny.dir("divided")
    wait_for(lambda: steps_done(run) >= 3, 90)
    Control("stop", "user", "stopped by ada").write(run.attempt(1).control)
    assert host.wait(30) == 3
    end = tiny.end("divided")
    assert (end["state"], end["message"]) == ("stopped", "stopped by ada")
    assert family(run) == []
    assert run.checkpoint_steps()[-1] == end["step"] >= 3
    said = [event for event in tiny.events("divided") if event.get("data", {}).get("processes")]
    assert (said[-1]["data"]["processes"], said[-1]["data"]["sharding"]) == (2, "full")
    assert "2 processes, each with a part of the model" in said[-1]["message"]
    assert_whole(run.checkpoint(end["step"]))
    assert tiny.resume("divided", "resources.processes=0", "resources.sharding=none") == 0
    done = [e["step"] for e in tiny.events("divided", 2) if "loss" in e.get("values", {})]
    assert done == list(range(end["step"] + 1, LAST + 1))
    assert_same_training(tiny, one, "divided")


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
def test_two_train_as_one_a_hang_is_a_stall_and_a_death_ends_all(tiny, one, monkeypatch):
    monkeypatch.setenv("ANNEAL_PROMISE", "6")
    host = started(tiny, "killed", *TWO, *tiny.options, "budget.max_steps=100000")
    run = tiny.dir("killed")
    other = follower(run)
    wait_for(lambda: steps_done(run) > LAST + 1, 90)
    assert_same_training(tiny, one, "killed")
    # Its time stands beside that of the first one, step by step.
    lines = [event for event in tiny.events("killed") if event["type"] == "spans"]
    own, its = (
        {e["step"]: e for e in lines if e["process"] == who} for who in ("trainer", "rank 1")
    )
    assert its and its.keys() <= own.keys()
    for step, line in its.items():
        assert "update" in {phase for phase, _, _ in line["spans"]}
        assert -1e-3 < line["start"] - own[step]["start"] < 0.1
        assert (line["steps"], line["process"]) == (own[step]["steps"], "rank 1")
    other.suspend()
    stall = wait_for(lambda: stalled(run, other.pid), 60)
    assert len(stall["data"]["processes"]) == 2
    assert "ranks.py" in stall["data"]["stacks"], stall["data"]
    began = time.monotonic()
    other.send_signal(signal.SIGKILL)
    host.wait(30)
    assert time.monotonic() - began < 30
    for word in (tiny.end("killed"), host_word(run)):
        assert (word["state"], word["cause"]) == ("failed", "killed")
        assert f"Rank 1 of 2 training processes (pid {other.pid}) ended first" in word["message"]
        assert "SIGKILL" in word["message"]
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
