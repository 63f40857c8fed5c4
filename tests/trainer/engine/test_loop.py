"""Rates and coefficients that move from step to step, reference syncs at their steps, tokens of each step."""

from __future__ import annotations

import itertools

import pytest
import torch

from tests.trainer.engine.support import KINDS
from trainer import spans
from trainer.control import Control
from trainer.engine.reference import Reference
from trainer.objectives._controllers import steered_beta
from trainer.registry import family

GRPO = ["objective.type=grpo", "evaluation.every_steps=0"]


def series(runs, key, name="run"):
    return {step: value for (step, found), value in runs.metrics(name).items() if found == key}


def test_the_rate_of_each_step_is_the_schedule_s_and_the_optimizer_s(runs, monkeypatch):
    used, step = [], torch.optim.AdamW.step

    def noted(self, closure=None):
        used.extend(group["lr"] for group in self.param_groups[:1])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", noted)
    schedule = ["schedule.type=linear", "schedule.warmup_steps=2", "schedule.floor=0.2"]
    assert runs.run("run", "objective.type=sft", "optimizer.lr=0.01", *schedule) == 0
    # Two of six steps rise to the peak; the other four fall to the floor, which the end would reach.
    wanted = [0.005, 0.01, 0.01, 0.008, 0.006, 0.004]
    assert used == pytest.approx(wanted)
    assert series(runs, "learning_rate") == pytest.approx(dict(enumerate(wanted, start=1)))


@pytest.fixture
def given(monkeypatch):
    """The beta that the loss was given, micro-batch by micro-batch, equal neighbours once."""
    kind, found = family("objectives")["grpo"], []
    loss = kind.loss

    def noted(self, batch):
        found.append(batch.dials["beta"])
        return loss(self, batch)

    monkeypatch.setattr(kind, "loss", noted)
    return lambda: [beta for beta, _ in itertools.groupby(found)]


def test_a_scheduled_coefficient_follows_the_share_of_the_run_that_is_done(runs, given):
    schedule = ["objective.beta=0.3", "objective.beta_schedule=linear", "objective.beta_end=0.9"]
    assert runs.run("run", *GRPO, *schedule) == 0
    assert series(runs, "beta") == pytest.approx(
        {step: 0.3 + 0.6 * (step - 1) / 6 for step in range(1, 7)}
    )
    assert given() == list(series(runs, "beta").values())


def test_a_steered_coefficient_answers_what_the_step_before_measured(runs):
    knobs = [
        "objective.beta=0.3", "objective.beta_schedule=target", "objective.kl_target=0.002",
        "objective.kl_gain=0.5", "optimizer.lr=0.05",
    ]  # fmt: skip
    assert runs.run("run", *GRPO, *knobs) == 0
    beta, kl = series(runs, "beta"), series(runs, "kl")
    assert beta[1] == 0.3
    for step in range(1, 6):
        assert beta[step + 1] == pytest.approx(steered_beta(beta[step], kl[step], 0.002, 0.5))
    assert len({round(value, 9) for value in beta.values()}) > 3


def test_a_live_edit_of_a_coefficient_takes_effect_at_the_next_step(runs, stop_after, given):
    stop_after(runs.dir("run"), 1, 3, Control("run", knobs={"objective.beta": 0.7}))
    assert runs.run("run", *GRPO, "objective.beta=0.1") == 0
    beta = series(runs, "beta")
    assert [beta[step] for step in range(1, 7)] == [0.1] * 3 + [0.7] * 3
    assert given() == [0.1, 0.7]


def test_a_live_edit_that_asks_for_a_reference_gets_one_in_the_middle_of_a_batch(runs, stop_after):
    stop_after(runs.dir("run"), 1, 2, Control("run", knobs={"objective.beta": 0.7}))
    assert runs.run("run", *GRPO, "batch.updates_per_rollout=4") == 0
    assert sorted(series(runs, "kl")) == [3, 4, 5, 6]


@pytest.mark.parametrize(
    ("updates", "every", "steps"),
    [(1, 2, [2, 4, 6]), (2, 2, [2, 4, 6]), (2, 3, [4, 6]), (3, 1, [3, 6]), (1, 7, [])],
)
def test_the_reference_is_synced_when_due_and_never_within_a_batch(
    runs, monkeypatch, updates, every, steps
):
    seen = []
    sync = Reference.sync

    def spy(self, policy, mix):
        seen.append(mix)
        sync(self, policy, mix)

    monkeypatch.setattr(Reference, "sync", spy)
    options = [f"batch.updates_per_rollout={updates}", f"reference.sync_every={every}"]
    assert runs.run("run", *GRPO, "objective.beta=0.1", *options, "reference.sync_mix=1") == 0
    spent = {
        event["step"]: event["values"]["time/sync"]
        for event in runs.events("run")
        if event["type"] == "metrics" and "time/sync" in event["values"]
    }
    assert [step for step, seconds in sorted(spent.items()) if seconds > 0] == steps
    assert seen == [1.0] * len(steps)
    # The step behind a full sync compares the policy with itself.
    kl = series(runs, "kl")
    assert all(abs(kl[step + 1]) < 1e-9 for step in steps if step + 1 in kl)


def test_the_steps_of_a_pass_count_each_token_once(runs):
    one = ["budget.max_steps=1", "batch.prompts_per_step=8"]
    assert runs.run("whole", *GRPO, *one) == 0
    parts = ["budget.max_steps=4", "batch.minibatches=4", "batch.prompts_per_step=8"]
    assert runs.run("parts", *GRPO, *parts) == 0
    whole, found = series(runs, "num_tokens", "whole"), series(runs, "num_tokens", "parts")
    assert found[4] == whole[1]
    assert 0 < found[1] < found[2] < found[3] < found[4]
    epochs = series(runs, "epoch", "parts")
    assert epochs[3] == 0 and epochs[4] == series(runs, "epoch", "whole")[1] == 0.8


def spans_by_step(runs, name):
    return [event for event in runs.events(name) if event["type"] == "spans"]


@pytest.mark.parametrize("kind", ["grpo-two-updates", "sft", "dpo"])
def test_the_spans_of_a_step_are_its_time(runs, monkeypatch, kind):
    monkeypatch.setattr(spans, "EVERY", 0.0)
    assert runs.run("run", *KINDS[kind]) == 0
    times = {
        event["step"]: event["values"]
        for event in runs.events("run")
        if event["type"] == "metrics" and "time/step" in event["values"]
    }
    *steps, last = spans_by_step(runs, "run")
    assert [line["step"] for line in steps] == list(times) == [1, 2, 3, 4, 5, 6]
    for line in steps:
        spent: dict[str, float] = {}
        for phase, start, end in line["spans"]:
            spent[phase] = spent.get(phase, 0.0) + end - start
        values = times[line["step"]]
        assert sum(spent.values()) == pytest.approx(values["time/step"], rel=0.02)
        for phase, seconds in spent.items():
            assert seconds == pytest.approx(values[f"time/{phase}"], rel=0.02, abs=2e-4)
        assert line["steps"] == 1 and line["process"] == "trainer"
    phases = [phase for phase, _, _ in steps[0]["spans"]]
    assert "eval" in phases, "the first evaluation is part of the first step"
    assert ("rollout" in phases) == kind.startswith("grpo")
    # What comes behind the last step is told as well, and counts as no step.
    assert (last["step"], last["steps"]) == (6, 0)
    assert {"eval", "checkpoint"} <= {phase for phase, _, _ in last["spans"]}


def test_quick_steps_write_few_lines_of_spans(runs):
    assert runs.run("run", *KINDS["sft"], "budget.max_steps=60", "evaluation.every_steps=0",
                    "checkpoint.every_steps=0") == 0  # fmt: skip
    *found, _ = spans_by_step(runs, "run")
    seconds = found[-1]["start"] - found[0]["start"]
    # One with the evaluation at the start, then at most four a second.
    assert len(found) <= 3 + seconds / spans.EVERY
    assert sum(line["steps"] for line in found) == found[-1]["step"]


def test_a_warm_up_has_no_plan(runs, monkeypatch):
    monkeypatch.setattr(spans, "EVERY", 0.0)
    recipe = runs.folder / "warm.toml"
    rows = '{ source = "noisy-sort", limit = 8, options = { digits = 3 } }'
    recipe.write_text(
        f'[objective]\ntype = "sft"\n[data]\ntrain = [{rows}]\n'
        "[batch]\nprompts_per_step = 4\n[budget]\nmax_steps = 3\n"
    )
    assert runs.run("run", *GRPO, f"model.warm_start={recipe}", "budget.max_steps=2") == 0
    warm = [e["step"] for e in runs.events("run") if "warmup/loss" in e.get("values", {})]
    assert warm == [1, 2, 3]
    assert [line["step"] for line in spans_by_step(runs, "run")] == [1, 2, 2]


def test_an_evaluation_run_has_a_plan_of_one_line(runs):
    assert runs.run("run", "kind=evaluate") == 0
    (line,) = spans_by_step(runs, "run")
    assert (line["step"], line["steps"]) == (0, 1)
    phases = {phase: end - start for phase, start, end in line["spans"]}
    assert phases["eval"] > 0.9 * sum(phases.values())


def test_the_start_tells_how_fast_its_machine_is(runs):
    assert runs.run("run", *GRPO, "budget.max_steps=1") == 0
    (told,) = [e["data"]["speed"] for e in runs.events("run") if "speed" in e.get("data", {})]
    assert told["flops"] > 1e6 and told["weights"] > 1000 and 0 < told["decode_s"] < 60
    assert runs.run("sft", *KINDS["sft"], "budget.max_steps=1") == 0
    (told,) = [e["data"]["speed"] for e in runs.events("sft") if "speed" in e.get("data", {})]
    assert "decode_s" not in told, "nothing is decoded"
