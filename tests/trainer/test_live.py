"""Live knobs: which they are, what is refused by name, and the spec that they give."""

from __future__ import annotations

import pytest

from tests.trainer.engine.support import tiny_spec
from trainer.live import live_knobs, live_problem, value_at, with_knobs
from trainer.problems import SpecError

GRPO = tiny_spec("objective.type=grpo")


def test_rate_kl_temperature_and_reward_weights_of_a_run_may_change():
    assert live_knobs(GRPO) == {
        "objective.beta": 0.0,
        "objective.entropy_coef": 0.0,
        "rewards.0.weight": 1.0,
        "rewards.1.weight": 1.0,
        "rollout.temperature": 1.0,
        "optimizer.lr": 0.01,
        "budget.max_steps": 6,
        "budget.max_minutes": 0,
        "evaluation.every_steps": 2,
        "checkpoint.every_steps": 2,
    }
    assert "objective.beta" in live_knobs(tiny_spec("objective.type=dpo"))
    assert "rollout.temperature" not in live_knobs(tiny_spec("objective.type=dpo"))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("seed", "cannot be changed"),
        ("no.such", "cannot be changed"),
        ("rewards.7.weight", "cannot be changed"),
        ("rewards.-1.weight", "cannot be changed"),
        ("rewards", "cannot be changed"),
        ("", "cannot be changed"),
        ("optimizer.__class__", "cannot be changed"),
    ],
)
def test_another_path_is_refused_by_its_name(path, words):
    assert words in live_problem(GRPO, path)
    with pytest.raises(SpecError) as refusal:
        with_knobs(GRPO, {path: 1})
    assert refusal.value.problems[0].path == path


def test_a_steered_knob_is_refused_because_a_change_would_have_no_effect():
    steered = tiny_spec(
        "objective.type=grpo", "objective.beta=0.1", "objective.beta_schedule=target",
        "objective.kl_target=0.01", "objective.entropy_target=1.0",
    )  # fmt: skip
    assert "steered" in live_problem(steered, "objective.beta")
    assert "steered" in live_problem(steered, "objective.entropy_coef")
    assert "no answers" in live_problem(tiny_spec("objective.type=sft"), "rollout.temperature")


def test_the_spec_has_the_new_values_and_a_bad_one_is_named():
    spec = with_knobs(GRPO, {"optimizer.lr": 0.5, "rewards.1.weight": 0.25})
    assert (value_at(spec, "optimizer.lr"), value_at(spec, "rewards.1.weight")) == (0.5, 0.25)
    assert value_at(spec, "rewards.0.weight") == 1.0
    with pytest.raises(SpecError) as refusal:
        with_knobs(GRPO, {"optimizer.lr": -1})
    assert [problem.path for problem in refusal.value.problems] == ["optimizer.lr"]
