"""A run stopped and resumed equals the run never stopped, to the last bit."""

from __future__ import annotations

import json
import os
import random
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.trainer.engine.support import KINDS, TINY
from trainer.control import Control
from trainer.engine import checkpoint, orders
from trainer.engine.evaluate import Evaluation
from trainer.rewards.exact_match import ExactMatch

LAST = TINY["budget"]["max_steps"]


@contextmanager
def edited(run):
    """spec.json as somebody edits it by hand."""
    raw = json.loads(run.spec_path.read_text())
    yield raw["spec"]
    run.spec_path.write_text(json.dumps(raw))


def assert_equal(runs, one, two):
    assert runs.checkpoint_bytes(one, LAST) == runs.checkpoint_bytes(two, LAST)
    assert runs.metrics(one) == runs.metrics(two)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3, 4])
def test_a_run_stopped_between_steps_equals_the_run_never_stopped(runs, stop_after, kind, step):
    assert runs.run("calm", *KINDS[kind]) == 0
    stop_after(runs.dir("stopped"), 1, step, Control("stop", "user", "stopped by ada"))
    assert runs.run("stopped", *KINDS[kind]) == 3
    assert runs.end("stopped")["message"] == "stopped by ada"
    assert runs.dir("stopped").checkpoint_steps()[-1] == step
    assert runs.resume("stopped") == 0
    assert_equal(runs, "calm", "stopped")


@pytest.mark.parametrize("kind", ["grpo-two-updates", "dpo"])
def test_half_precision_goes_on_from_full_precision_weights(runs, stop_after, kind):
    half = [*KINDS[kind], "model.dtype=bfloat16"]
    assert runs.run("calm", *half) == 0
    stop_after(runs.dir("stopped"), 1, 3, Control("stop"))
    assert runs.run("stopped", *half) == 3
    assert runs.resume("stopped") == 0
    assert_equal(runs, "calm", "stopped")
    weights = load_file(runs.dir("stopped").checkpoint(LAST) / "model.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}
    # What bfloat16 could not hold is there: the weights were not rounded on their way to the disk.
    assert any(not torch.equal(value, value.bfloat16().float()) for value in weights.values())


@pytest.mark.parametrize("kind", ["grpo", "sft", "dpo"])
@pytest.mark.parametrize("moment", range(4))
def test_a_run_stopped_inside_a_step_or_an_evaluation_loses_nothing(
    runs, monkeypatch, kind, moment
):
    assert runs.run("calm", *KINDS[kind]) == 0
    check, calls = orders.Orders.check, iter(range(1 << 30))
    at = random.Random(f"{kind}{moment}").randrange(20, 120)

    def check_and_stop(self, *, now=False):
        if next(calls) == at:
            raise orders.Halt("paused", "user", "paused on request")
        check(self, now=now)

    monkeypatch.setattr(orders.Orders, "check", check_and_stop)
    code = runs.run("stopped", *KINDS[kind])
    assert code in (4, 0)
    if code == 4:
        assert runs.resume("stopped") == 0
    assert_equal(runs, "calm", "stopped")


def test_a_warm_up_is_resumed_too(runs, stop_after, tmp_path):
    recipe = tmp_path / "warm.toml"
    recipe.write_text(
        '[data]\ntrain = [{ source = "noisy-sort", limit = 12, options = { digits = 3 } }]\n'
        '[objective]\ntype = "sft"\n[budget]\nmax_steps = 5\n[checkpoint]\nevery_steps = 2\n'
        "[batch]\nprompts_per_step = 4\n"
    )
    warm = [*KINDS["grpo"], f"model.warm_start={recipe}"]
    assert runs.run("calm", *warm) == 0
    keys = {key for _, key in runs.metrics("calm")}
    assert {"warmup/loss", "loss", "eval/reward"} <= keys
    for name, step, key in (("early", 3, "warmup/loss"), ("late", 2, "loss")):
        with pytest.MonkeyPatch.context():
            stop_after(runs.dir(name), 1, step, Control("stop"), key)
            assert runs.run(name, *warm) == 3
        assert runs.resume(name) == 0
        assert_equal(runs, "calm", name)
    assert runs.dir("early").checkpoint_steps() == [4, 6]


def test_it_resumes_from_step_0_when_there_is_no_checkpoint(runs, stop_after):
    assert runs.run("calm", *KINDS["grpo"]) == 0
    stop_after(runs.dir("early"), 1, 0, Control("pause"), "eval/reward")
    assert runs.run("early", *KINDS["grpo"]) == 4
    assert runs.dir("early").checkpoint_steps() == []
    assert runs.resume("early", "--attempt", "5") == 0
    assert runs.dir("early").attempts() == [1, 5]
    assert_equal(runs, "calm", "early")


def test_what_draws_from_the_shared_generators_goes_on_where_it_stood(
    runs, stop_after, monkeypatch
):
    """A method of a user's own may: pairs of normals leave half a pair behind in each generator."""

    def score(self, answer):
        return random.gauss(0, 1) + np.random.randn() + float(torch.randn(1))

    monkeypatch.setattr(ExactMatch, "score", score)
    assert runs.run("calm", *KINDS["grpo"], "evaluation.every_steps=0", "data.eval=[]") == 0
    random.seed()
    stop_after(runs.dir("stopped"), 1, 3, Control("stop"))
    assert runs.run("stopped", *KINDS["grpo"], "evaluation.every_steps=0", "data.eval=[]") == 3
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(99)
    assert runs.resume("stopped") == 0
    assert_equal(runs, "calm", "stopped")
    rewards = {value for (_, key), value in runs.metrics("calm").items() if key == "reward"}
    assert len(rewards) == LAST


def test_counters_go_on_after_resuming(runs, stop_after):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    runs.run("run", *KINDS["grpo"])
    runs.resume("run")
    tokens = [
        value for (_, key), value in sorted(runs.metrics("run").items()) if key == "num_tokens"
    ]
    assert tokens == sorted(tokens) and len(tokens) == LAST and tokens[0] > 0


def _flip(folder):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "a flipped bit": (_flip, "model.safetensors was changed"),
    "truncated weights": (
        lambda folder: os.truncate(folder / "model.safetensors", 100),
        "model.safetensors was changed",
    ),
    "truncated state": (
        lambda folder: os.truncate(folder / "trainer/state.safetensors", 9),
        "trainer/state.safetensors was changed",
    ),
    "no manifest": (
        lambda folder: (folder / "manifest.json").unlink(),
        "it has no manifest.json",
    ),
    "half a manifest": (
        lambda folder: os.truncate(folder / "manifest.json", 40),
        "manifest.json cannot be read",
    ),
    "a manifest of another kind": (
        lambda folder: (folder / "manifest.json").write_text("[]"),
        "manifest.json cannot be read",
    ),
    "a manifest that names nothing": (
        lambda folder: (folder / "manifest.json").write_text('{"files": {}}'),
        "manifest.json does not name trainer/state.json",
    ),
    "a file gone": (
        lambda folder: (folder / "config.json").unlink(),
        "config.json is missing",
    ),
    "an empty folder": (
        lambda folder: (shutil.rmtree(folder), folder.mkdir()),
        "it has no manifest.json",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning(runs, capsys, case):
    damage, sentence = DAMAGE[case]
    assert runs.run("run", *KINDS["sft"]) == 0
    before = runs.checkpoint_bytes("run", LAST)
    damage(runs.dir("run").checkpoint(LAST))
    capsys.readouterr()
    assert runs.resume("run") == 0
    events = runs.events("run", 2)
    alerts = [event for event in events if event["type"] == "alert"]
    assert [alert["level"] for alert in alerts] == ["warning"]
    assert f"step-6 is damaged and was passed over: {sentence}" in alerts[0]["message"]
    assert f"warning: {alerts[0]['message']}" in capsys.readouterr().err
    loaded = [event["data"].get("resumed_from") for event in events if event["type"] == "status"]
    assert "step-4" in loaded
    assert runs.checkpoint_bytes("run", LAST) == before
    assert checkpoint.damage(runs.dir("run").checkpoint(LAST)) == ""


def test_a_damaged_newest_checkpoint_does_not_push_good_ones_out(runs, stop_after):
    keep = ["checkpoint.every_steps=1", "checkpoint.keep_last=1"]
    assert runs.run("run", *KINDS["sft"], *keep, "budget.max_steps=4") == 0
    folder = runs.dir("run").checkpoints
    # An older one that is whole, below a newer one that is not.
    shutil.copytree(folder / "step-4", folder / "step-9")
    _flip(folder / "step-9")
    stop_after(runs.dir("run"), 2, 5, Control("stop"))
    with edited(runs.dir("run")) as spec:
        spec["budget"]["max_steps"] = 6
    assert runs.resume("run") == 3
    assert checkpoint.newest(runs.dir("run"), lambda sentence: None) == folder / "step-5"


def test_an_evaluation_cut_short_is_made_good_and_saved_with_its_checkpoint(runs, monkeypatch):
    values = Evaluation.values

    def stop_at_4(self, step):
        if step == 4:
            raise orders.Halt("stopped", "user", "stopped")
        return values(self, step)

    monkeypatch.setattr(Evaluation, "values", stop_at_4)
    assert runs.run("run", *KINDS["sft"]) == 3
    assert checkpoint.manifest_of(runs.dir("run").checkpoint(4))["metrics"] == {}
    monkeypatch.undo()
    assert runs.resume("run") == 0
    assert (4, "eval/loss") in runs.metrics("run")
    assert "eval/loss" in checkpoint.manifest_of(runs.dir("run").checkpoint(4))["metrics"]


def test_resume_takes_changed_knobs_and_they_are_in_the_effective_spec(runs, stop_after):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run", "schedule.type=constant", "schedule.warmup_steps=0") == 3
    assert runs.resume("run", "optimizer.lr=2e-3", "batch.tokens_per_microbatch=64") == 0
    spec = runs.dir("run").spec()
    assert (spec.optimizer.lr, spec.batch.tokens_per_microbatch) == (2e-3, 64)
    rates = {s: v for (s, key), v in runs.metrics("run").items() if key == "learning_rate"}
    assert (rates[3], rates[4], rates[6]) == (1e-2, 2e-3, 2e-3)
    told = [e["message"] for e in runs.events("run", 2) if e.get("code") == "spec-changed"]
    assert "optimizer.lr was 0.01 and is now 0.002" in told[0]


def test_a_bad_knob_is_refused_before_an_attempt_begins(runs, stop_after, capsys):
    stop_after(runs.dir("run"), 1, 3, Control("stop"))
    assert runs.run("run") == 3
    assert runs.resume("run", "optimizer.lr=-1") == 2
    assert "optimizer.lr" in capsys.readouterr().err
    assert runs.dir("run").attempts() == [1]


def test_a_rollback_removes_what_earlier_attempts_saved_behind_it_and_nothing_newer(
    runs, stop_after
):
    assert runs.run("run", "checkpoint.keep_last=9", "budget.max_steps=6") == 0
    assert runs.dir("run").checkpoint_steps() == [2, 4, 6]
    assert runs.resume("run", "--void", "1:2") == 0
    assert runs.dir("run").checkpoint_steps() == [2, 4, 6]
    told = [e["message"] for e in runs.events("run", 2) if e.get("code") == "rolled-back"]
    assert told == ["removed the checkpoints of steps 4, 6: they are void"]
    steps = [e["step"] for e in runs.events("run", 2) if e["type"] == "metrics"]
    assert min(step for step in steps) == 3
    # The same order again finds nothing: those checkpoints are of the second attempt.
    assert runs.resume("run", "--void", "1:2") == 0
    assert not [e for e in runs.events("run", 3) if e.get("code") == "rolled-back"]
