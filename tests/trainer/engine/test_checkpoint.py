"""Checkpoints: complete or absent, loadable by anyone, without pickle."""

from __future__ import annotations

import contextlib
import json
import os

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.engine.support import KINDS, make_policy
from trainer.engine import checkpoint
from trainer.engine.failure import Halt
from trainer.engine.retention import best_of, prune
from trainer.engine.snapshot import Snapshot
from trainer.rundir import RunDir
from trainer.spec import CheckpointPolicy

TIED = {"tied": True}, {"tied": False}


def save(folder, policy, step=1, metrics=None, **options):
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.1)
    sum(p.sum() for p in policy.model.parameters()).backward()
    optimizer.step()
    snapshot = Snapshot.take(
        policy,
        optimizer,
        state={"step": step},
        buffers={"buffer": torch.arange(3)},
        fingerprint={"model": {}},
    )
    label = checkpoint.Label(1, step, metrics or {})
    published = checkpoint.publish(folder, policy=policy, snapshot=snapshot, label=label, **options)
    return published, optimizer


@pytest.mark.parametrize("options", TIED, ids=["tied", "untied"])
def test_the_usual_classes_load_it(tmp_path, options):
    policy = make_policy(**options)
    published, _ = save(tmp_path / "step-1", policy)
    model = AutoModelForCausalLM.from_pretrained(published.path)
    tokenizer = AutoTokenizer.from_pretrained(published.path)
    ids = tokenizer("sort 314 = ", return_tensors="pt")["input_ids"]
    assert (
        ids.tolist() == policy.tokenizer("sort 314 = ", return_tensors="pt")["input_ids"].tolist()
    )
    assert tokenizer.decode(ids[0]) == "sort 314 = "
    assert torch.equal(model(ids).logits, policy.model(ids).logits)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert tied == options["tied"]
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 0)


def test_everything_comes_back_to_the_bit(tmp_path):
    policy = make_policy()
    published, optimizer = save(tmp_path / "step-1", policy)
    saved = checkpoint.read(published.path)
    assert saved.state == {"step": 1}
    assert torch.equal(saved.buffers["buffer"], torch.arange(3))
    other = torch.optim.AdamW(policy.model.parameters(), lr=0.5)
    other.load_state_dict(saved.optimizer)
    assert str(other.state_dict()) == str(optimizer.state_dict())


def test_the_manifest_names_every_file_and_nothing_is_pickled(tmp_path):
    published, _ = save(tmp_path / "step-1", make_policy())
    files = {
        p.relative_to(published.path).as_posix() for p in published.path.rglob("*") if p.is_file()
    }
    manifest = json.loads((published.path / "manifest.json").read_text())
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert (manifest["attempt"], manifest["step"]) == (1, 1)
    assert not checkpoint.damage(published.path)
    assert {p.suffix for p in published.path.rglob("*") if p.is_file()} <= {
        ".json",
        ".safetensors",
        ".jinja",
    }


def test_a_checkpoint_cut_short_leaves_no_trace(tmp_path, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "sha256_of", fail)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "checkpoints" / "step-1", make_policy())
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_everything_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """Files and folders are synced after their last write, and the folder that holds the name after it."""
    folder = tmp_path / "checkpoints" / "step-1"
    fsync, replace = os.fsync, os.replace
    synced, unsafe = [], []

    def synced_state(status):
        return status.st_ino, status.st_mtime_ns

    def noted_fsync(descriptor):
        fsync(descriptor)
        synced.append(synced_state(os.fstat(descriptor)))

    def noted_replace(source, target):
        if target == folder:
            paths = [source, *source.rglob("*")]
            unsafe.extend(p.name for p in paths if synced_state(p.stat()) not in synced)
            synced.clear()
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save(folder, make_policy())
    assert unsafe == []
    assert synced == [synced_state(folder.parent.stat())]


def newest(run):
    return checkpoint.newest(run, lambda sentence: None)


def test_what_a_killed_attempt_left_is_tidied(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    save(run.checkpoint(1), policy)
    half = run.checkpoints / "step-2.tmp-1-99"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    # Killed between the two renames of a replacement, and inside a removal.
    save(run.checkpoint(3), policy)
    run.checkpoint(3).rename(run.checkpoints / "step-3.old-99")
    (run.checkpoints / "step-4.gone-99").mkdir()
    # Killed while it noted which one is the best.
    (run.checkpoints / ".best.json.99.tmp").write_text('{"step": ')
    assert newest(run) == run.checkpoint(3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-1", "step-3"]


POINTS = ["_write_model", "_write_state", "sha256_of", "_fsync", "os.replace", "shutil.rmtree"]


class Killed(BaseException):
    """What no handler may clear up after: the process is gone."""


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("replacing", [False, True])
def test_killed_anywhere_in_a_save_a_whole_checkpoint_is_left(
    tmp_path, monkeypatch, point, replacing
):
    """Every call of every kind is cut short in turn, until a save gets through."""
    policy, calls = make_policy(), 0
    while True:
        run = RunDir(tmp_path / str(calls))
        save(run.checkpoint(1), policy)
        if replacing:
            save(run.checkpoint(2), policy, metrics={"old": 1.0})
        with monkeypatch.context() as patch:
            cut = _cut_short(patch, point, calls)
            with contextlib.suppress(Killed):
                save(run.checkpoint(2), policy, metrics={"new": 1.0})
        found = newest(run)
        assert found is not None and checkpoint.read(found).buffers["buffer"].tolist() == [0, 1, 2]
        assert found.name == "step-2" or not replacing
        whole = {"step-1", found.name}
        assert {path.name for path in run.checkpoints.iterdir()} == whole
        if not cut():
            break
        calls += 1
    assert calls >= 1


def _cut_short(patch, point, at):
    """Die at the `at`-th call of a function, after which nothing of the dead process runs any more."""
    owner, name = checkpoint, point
    if "." in point:
        module, name = point.split(".")
        owner = getattr(checkpoint, module)
    real, seen, dead = getattr(owner, name), [0], []

    def die(*arguments, **options):
        if dead:
            raise Killed
        seen[0] += 1
        if seen[0] == at + 1:
            dead.append(True)
            patch.setattr(checkpoint.shutil, "rmtree", lambda *a, **o: None)
            raise Killed
        return real(*arguments, **options)

    patch.setattr(owner, name, die)
    return lambda: bool(dead)


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path):
    run = RunDir(tmp_path)
    save(run.checkpoint(1), make_policy())
    run.checkpoint(9).mkdir()
    assert newest(run) == run.checkpoint(1)


def keep(**rules):
    return CheckpointPolicy(**{"keep_last": 1, "keep_best": 0, **rules})


def test_the_newest_and_the_best_are_kept(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step, reward in ((1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3)):
        save(run.checkpoint(step), policy, step, {"eval/reward": reward, "eval/loss": reward})
    assert prune(run, keep(keep_best=1), metric="eval/reward", step=4) == [1, 3]
    assert run.checkpoint_steps() == [2, 4]
    assert best_of(run) == run.checkpoint(2)
    note = json.loads((run.checkpoints / "best.json").read_text())
    assert note == {"step": 2, "path": "step-2", "metric": "eval/reward", "value": 0.9}
    save(run.checkpoint(5), policy, 5, {"eval/loss": 5.0})
    assert prune(run, keep(keep_best=1), metric="eval/loss", step=5) == [2]
    assert best_of(run) == run.checkpoint(4)


def test_every_so_many_steps_one_stays_for_good(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step in range(1, 9):
        save(run.checkpoint(step), policy, step)
        prune(run, keep(keep_every=3), metric="eval/reward", step=step)
    assert run.checkpoint_steps() == [3, 6, 8]


def test_what_lies_ahead_of_the_run_pushes_nothing_out(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step in (2, 9):
        save(run.checkpoint(step), policy, step)
    assert prune(run, keep(), metric="eval/reward", step=2) == []
    assert run.checkpoint_steps() == [2, 9]


def test_a_manifest_that_cannot_be_read_has_no_say_in_what_is_kept(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step in (1, 2):
        save(run.checkpoint(step), policy, step, {"eval/reward": 1.0})
    (run.checkpoint(1) / "manifest.json").write_text("{")
    assert prune(run, keep(keep_best=1), metric="eval/reward", step=2) == [1]


def test_a_fence_at_the_last_moment_keeps_the_checkpoint_back(tmp_path):
    def fenced():
        raise Halt("stopped", "fenced", "attempt 2 has taken over")

    run = RunDir(tmp_path)
    with pytest.raises(Halt, match="taken over"):
        save(run.checkpoint(1), make_policy(), may_publish=fenced)
    assert list(run.checkpoints.iterdir()) == []


def test_the_manifest_says_what_the_weights_are(runs):
    assert runs.run("run", *KINDS["sft"]) == 0
    manifests = [checkpoint.manifest_of(runs.dir("run").checkpoint(step)) for step in (4, 6)]
    assert [manifest["final"] for manifest in manifests] == [False, True]
    assert manifests[1]["weights"] == {"dtype": "float32", "stored_dtype": "float32"}
    assert manifests[1]["spec_sha256"] == runs.dir("run").spec_raw()["sha256"]


def test_retention_holds_in_a_run(runs):
    assert runs.run("run", *KINDS["sft"], "checkpoint.every_steps=1", "checkpoint.keep_last=1") == 0
    assert runs.dir("run").checkpoint_steps() == [6]
