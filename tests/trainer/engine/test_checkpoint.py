"""Checkpoints: complete or absent, loadable by anyone, without pickle."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.trainer.engine.support import KINDS, make_policy
from trainer.engine import checkpoint
from trainer.rundir import RunDir

TIED = {"tied": True}, {"tied": False}


def save(folder, policy, step=1, metrics=None):
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.1)
    sum(p.sum() for p in policy.model.parameters()).backward()
    optimizer.step()
    snapshot = checkpoint.Snapshot({"step": step}, optimizer, {"buffer": torch.arange(3)})
    published = checkpoint.publish(
        folder, policy=policy, snapshot=snapshot, attempt=1, step=step, metrics=metrics or {}
    )
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
    assert torch.equal(saved.tensors["buffer"], torch.arange(3))
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


def test_what_a_killed_attempt_left_is_tidied(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    save(run.checkpoint(1), policy)
    half = run.checkpoints / "step-2.tmp-1-99"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    # Killed between the two renames of a replacement.
    save(run.checkpoint(3), policy)
    run.checkpoint(3).rename(run.checkpoints / "step-3.old-99")
    assert checkpoint.newest(run) == run.checkpoint(3)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-1", "step-3"]


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path):
    run = RunDir(tmp_path)
    save(run.checkpoint(1), make_policy())
    run.checkpoint(9).mkdir()
    assert checkpoint.newest(run) == run.checkpoint(1)


def test_the_newest_and_the_best_are_kept(tmp_path):
    run, policy = RunDir(tmp_path), make_policy()
    for step, reward in ((1, 0.1), (2, 0.9), (3, 0.2), (4, 0.3)):
        save(run.checkpoint(step), policy, step, {"eval/reward": reward, "eval/loss": reward})
    kept = {"keep_last": 1, "keep_best": 1}
    assert checkpoint.prune(run, **kept, metric="eval/reward") == [1, 3]
    assert run.checkpoint_steps() == [2, 4]
    save(run.checkpoint(5), policy, 5, {"eval/loss": 5.0})
    assert checkpoint.prune(run, **kept, metric="eval/loss") == [2]


def test_retention_holds_in_a_run(runs):
    assert runs.run("run", *KINDS["sft"], "checkpoint.every_steps=1", "checkpoint.keep_last=1") == 0
    assert runs.dir("run").checkpoint_steps() == [6]
