"""Saving while training goes on: the same bytes, one writer of the journal, errors that end the run."""

from __future__ import annotations

import errno
import json
import threading
import time

import pytest

from tests.trainer.engine.support import KINDS
from trainer.engine import checkpoint, saving
from trainer.journal import Journal

EVERY = ["checkpoint.every_steps=1", "checkpoint.keep_last=9"]


def checkpoints(events):
    return [event["step"] for event in events if event["type"] == "checkpoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_writing_in_the_background_changes_no_bit(runs, kind):
    for name, value in (("beside", "true"), ("between", "false")):
        assert runs.run(name, *KINDS[kind], *EVERY, f"checkpoint.background={value}") == 0
    for step in range(1, 7):
        assert runs.checkpoint_bytes("beside", step) == runs.checkpoint_bytes("between", step)
    assert runs.metrics("beside") == runs.metrics("between")
    assert checkpoints(runs.events("beside")) == checkpoints(runs.events("between")) != []


def test_training_goes_on_while_the_disk_is_slow(runs, monkeypatch):
    publish, threads = checkpoint.publish, set()

    def slow(folder, **options):
        time.sleep(0.4)
        threads.add(threading.current_thread().name)
        return publish(folder, **options)

    monkeypatch.setattr(saving.checkpoint, "publish", slow)
    assert runs.run("run", *KINDS["sft"], "checkpoint.every_steps=3") == 0
    events = runs.events("run")
    kinds = [(event["type"], event.get("step")) for event in events]
    assert kinds.index(("metrics", 4)) < kinds.index(("checkpoint", 3))
    assert threads == {"checkpoint-writer"}
    # What the training did wait for is counted.
    waited = [event["values"].get("time/checkpoint", 0) for event in events if "values" in event]
    assert max(waited) < 0.4
    assert kinds[-2] == ("checkpoint", 6) and events[-2]["final"]
    # What is written is the run as it stood, not as it went on.
    monkeypatch.undo()
    assert runs.run("calm", *KINDS["sft"], "checkpoint.every_steps=3") == 0
    for step in (3, 6):
        assert runs.checkpoint_bytes("run", step) == runs.checkpoint_bytes("calm", step)
    state = json.loads((runs.dir("run").checkpoint(3) / "trainer/state.json").read_text())["state"]
    assert (state["step"], state["visited"]) == (3, [12])


def test_a_save_waits_for_the_one_before(runs, monkeypatch):
    publish, at_work, most = checkpoint.publish, [], []

    def slow(folder, **options):
        at_work.append(folder)
        most.append(len(at_work))
        time.sleep(0.1)
        try:
            return publish(folder, **options)
        finally:
            at_work.pop()

    monkeypatch.setattr(saving.checkpoint, "publish", slow)
    assert runs.run("run", *KINDS["sft"], *EVERY) == 0
    assert most == [1] * 6
    assert checkpoints(runs.events("run")) == [1, 2, 3, 4, 5, 6]


def test_the_journal_has_one_writer(runs, monkeypatch):
    extend, threads = Journal.extend, set()

    def noted(self, type, events):
        threads.add(threading.current_thread())
        return extend(self, type, events)

    monkeypatch.setattr(Journal, "extend", noted)
    assert runs.run("run", *KINDS["grpo"], *EVERY) == 0
    assert threads == {threading.main_thread()}


@pytest.mark.parametrize("background", ["true", "false"])
@pytest.mark.parametrize("step", [2, 6])
def test_a_full_disk_ends_the_run_and_leaves_what_was_saved(runs, monkeypatch, step, background):
    write = checkpoint._write_state

    def full(folder, snapshot):
        write(folder, snapshot)
        if snapshot.state["step"] == step:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr(checkpoint, "_write_state", full)
    code = runs.run("run", *KINDS["sft"], *EVERY, f"checkpoint.background={background}")
    assert code == 1
    end = runs.end("run")
    assert (end["state"], end["cause"]) == ("failed", "disk")
    assert "the disk is full" in end["message"]
    assert runs.dir("run").checkpoint_steps() == list(range(1, step))
    left = {path.name for path in runs.dir("run").checkpoints.iterdir()}
    assert not any(".tmp-" in name for name in left)
    monkeypatch.undo()
    assert runs.resume("run") == 0
    assert runs.run("calm", *KINDS["sft"], *EVERY) == 0
    assert runs.checkpoint_bytes("run", 6) == runs.checkpoint_bytes("calm", 6)


def test_a_fenced_attempt_publishes_nothing_it_had_begun(runs, monkeypatch):
    write = checkpoint._write_state

    def overtaken(folder, snapshot):
        write(folder, snapshot)
        runs.dir("run").attempt(2).path.mkdir(exist_ok=True)

    monkeypatch.setattr(checkpoint, "_write_state", overtaken)
    assert runs.run("run", *KINDS["sft"], *EVERY) == 3
    assert runs.end("run")["cause"] == "fenced"
    assert runs.dir("run").checkpoint_steps() == []
    assert checkpoints(runs.events("run")) == []


def test_a_checkpoint_is_told_of_though_its_attempt_was_killed_before_it_could(runs):
    assert runs.run("run", *KINDS["sft"], "checkpoint.keep_last=1") == 0
    path = runs.dir("run").attempt(1).journal("trainer")
    lines = path.read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if '"type":"checkpoint"' in line)
    told = runs.events("run")[last]
    path.write_text("".join(lines[:last]))
    assert runs.resume("run") == 0
    again = [event for event in runs.events("run", 2) if event["type"] == "checkpoint"]
    assert len(again) == 1
    for key in ("step", "path", "bytes", "sha256", "metrics", "final", "removed"):
        assert again[0][key] == told[key], key
    # Once it is known there is nothing to tell.
    assert runs.resume("run") == 0
    assert checkpoints(runs.events("run", 3)) == []
