"""Measuring between steps leaves the training as it is."""

from __future__ import annotations

import pytest

from tests.trainer.engine.support import KINDS, TINY

LAST = TINY["budget"]["max_steps"]
COMMON = ["grpo", "grpo-two-updates", "sft", "dpo"]


@pytest.mark.parametrize("kind", COMMON)
def test_bug_48_evaluation_between_steps_changes_no_bit_of_the_training(runs, kind):
    plan = ["evaluation.samples_per_prompt=3", "evaluation.temperature=0.9"]
    assert runs.run("often", *KINDS[kind], *plan, "evaluation.every_steps=1") == 0
    assert runs.run("never", *KINDS[kind], "data.eval=[]") == 0
    often, never = runs.metrics("often"), runs.metrics("never")
    measured = {step for step, key in often if key.startswith("eval/")}
    assert measured == set(range(LAST + 1))
    assert {key: value for key, value in often.items() if not key[1].startswith("eval/")} == never
    name = "model.safetensors"
    for step in (4, LAST):
        assert (
            runs.checkpoint_bytes("often", step)[name] == runs.checkpoint_bytes("never", step)[name]
        )


def test_bug_48_evaluations_of_one_model_agree(runs):
    """At a rate of almost nothing every evaluation draws the same answers."""
    options = ["optimizer.lr=1e-30", "evaluation.every_steps=1", "optimizer.weight_decay=0"]
    assert runs.run("still", *KINDS["grpo"], *options) == 0
    rewards = [v for (_, key), v in sorted(runs.metrics("still").items()) if key == "eval/reward"]
    assert len(rewards) == LAST + 1 and len(set(rewards)) == 1
