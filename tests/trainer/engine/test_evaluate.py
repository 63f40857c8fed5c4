"""Evaluation: the same prompts and seeds every time, and no trace in training."""

from __future__ import annotations

import itertools

import pytest

from tests.trainer.engine.support import KINDS
from trainer.engine import generation
from trainer.engine.evaluate import pass_at_k, pass_ks
from trainer.engine.sampler import Sampling, sample


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_does_not_change_training(runs, kind):
    assert runs.run("often", *KINDS[kind], "evaluation.every_steps=1") == 0
    assert runs.run("never", *KINDS[kind], "data.eval=[]") == 0
    often, never = runs.metrics("often"), runs.metrics("never")
    assert {k: v for k, v in often.items() if not k[1].startswith("eval/")} == never
    weights = "model.safetensors"
    assert runs.checkpoint_bytes("often", 6)[weights] == runs.checkpoint_bytes("never", 6)[weights]


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("grpo", {"eval/reward", "eval/accuracy", "eval/noisy-sort/reward"}),
        ("sft", {"eval/loss", "eval/accuracy", "eval/noisy-sort/loss"}),
        ("dpo", {"eval/pair_accuracy", "eval/loss", "eval/accuracy", "eval/reward"}),
    ],
)
def test_it_measures_at_the_start_at_intervals_and_at_the_end(runs, kind, keys):
    assert runs.run("run", *KINDS[kind], "evaluation.every_steps=4") == 0
    steps = {}
    for step, key in runs.metrics("run"):
        steps.setdefault(key, []).append(step)
    assert keys <= set(steps)
    for key in keys:
        assert sorted(steps[key]) == [0, 4, 6]


def test_an_untrained_model_prefers_no_side(runs):
    runs.run("run", *KINDS["dpo"])
    assert runs.metrics("run")[0, "eval/pair_accuracy"] == 0.5


def test_sources_are_weighed(runs):
    source = '{ source = "noisy-sort", split = "test", limit = 4, options = { digits = 2 }, weight = 3.0 }'
    other = '{ source = "noisy-sort", split = "test", limit = 4, options = { digits = 3 } }'
    assert runs.run("run", *KINDS["sft"], f"data.eval=[{source}, {other}]") == 0
    values = runs.metrics("run")
    for key in ("loss", "reward", "mean_length"):
        mean = (3 * values[6, f"eval/noisy-sort/{key}"] + values[6, f"eval/noisy-sort-2/{key}"]) / 4
        assert values[6, f"eval/{key}"] == pytest.approx(mean)


@pytest.mark.parametrize(
    ("knobs", "how"),
    [
        ([], Sampling(5, 1.0)),
        (["evaluation.temperature=0.3"], Sampling(5, 0.3)),
        (["evaluation.max_new_tokens=3"], Sampling(3, 1.0)),
        # What truncates training's rollouts leaves evaluation's alone.
        (["rollout.temperature=0.7", "rollout.top_p=0.8"], Sampling(5, 1.0)),
    ],
)
def test_answers_are_drawn_as_the_evaluation_says(runs, monkeypatch, knobs, how):
    asked = []

    def noted(policy, prompts, keys, how, **named):
        asked.append((how, keys.shape))
        return sample(policy, prompts, keys, how, **named)

    monkeypatch.setattr(generation, "sample", noted)
    plan = ["kind=evaluate", "evaluation.samples_per_prompt=2", *knobs]
    assert runs.run("run", *KINDS["grpo"], *plan) == 0
    assert asked == [(how, (6, 2))]


def test_pass_at_k_is_the_average_over_all_subsets():
    right = [True, False, False, True, False]
    for k in (1, 2, 3, 5):
        subsets = list(itertools.combinations(right, k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert pass_at_k(5, 2, k) == pytest.approx(expected)
    assert (pass_ks(1), pass_ks(2), pass_ks(8), pass_ks(6)) == ([], [2], [2, 4, 8], [2, 4, 6])
