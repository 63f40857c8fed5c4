"""What will happen, before it happens: the arithmetic in words, warnings, problems, a forecast."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.selectors.spec_arithmetic import tokens_per_step
from orchestrator.selectors.spec_review import spec_review
from trainer.recipebook import recipes
from trainer.spec import spec_parse

THIN = "\u202f"
GRPO: dict[str, Any] = {
    "objective": {"type": "grpo"},
    "rewards": [{"type": "exact-match"}],
    "data": {
        "train": [{"source": "noisy-sort"}],
        "eval": [{"source": "noisy-sort", "split": "test", "limit": 256}],
    },
    "rollout": {"group_size": 16, "max_new_tokens": 8},
    "batch": {"prompts_per_step": 16, "tokens_per_microbatch": 2048},
    "budget": {"max_steps": 120},
    "evaluation": {"every_steps": 20},
    "checkpoint": {"every_steps": 40},
}


def said(raw: dict[str, Any]) -> str:
    """All sentences, with plain spaces."""
    review = spec_review(raw)
    assert review["errors"] == []
    return " ".join(review["arithmetic"]).replace(THIN, " ")


def with_parts(raw: dict[str, Any], **parts: dict[str, Any]) -> dict[str, Any]:
    """The spec with knobs of some sections changed."""
    return {**raw, **{name: {**raw.get(name, {}), **knobs} for name, knobs in parts.items()}}


def warned(raw: dict[str, Any]) -> dict[str, str]:
    """Warnings by path."""
    return {one["path"]: one["message"] for one in spec_review(raw)["warnings"]}


def test_the_arithmetic_of_sampled_answers_is_spelled_out() -> None:
    words = said(GRPO)
    # "sort 12345 = " has 13 characters, one token each, and a token that ends the text.
    assert "16 prompts × 16 answers = 256 answers a step" in words
    assert "5 632 tokens (14 prompt + 8 answer tokens each)" in words
    assert "in at least 3 micro-batches of up to 2 048" in words
    assert "120 steps = 1 920 prompts, 30 720 answers, up to 675 840 tokens" in words
    assert "every 20 steps and at the end (7 times)" in words
    assert "A checkpoint every 40 steps" in words


def test_one_microbatch_is_one() -> None:
    assert "in 1 micro-batch of" in said(with_parts(GRPO, batch={"tokens_per_microbatch": 16384}))


def test_reused_answers_are_counted_once() -> None:
    words = said(with_parts(GRPO, batch={"updates_per_rollout": 2}))
    assert "Each batch of answers is used for 2 optimizer steps" in words
    assert "120 steps = 960 prompts, 15 360 answers" in words


def test_processes_that_share_a_step_are_told_of() -> None:
    assert "processes share" not in said(GRPO)
    words = said(with_parts(GRPO, resources={"gpus": 4}))
    assert "4 processes share each step, 4 prompts each." in words
    words = said(with_parts(GRPO, resources={"gpus": 0, "processes": 3, "sharding": "full"}))
    assert "3 processes share each step, 5 or 6 prompts each, and the model is divided" in words


def test_a_batch_in_parts_is_counted_once_for_all_of_them() -> None:
    parts = {"prompts_per_step": 16, "minibatches": 4}
    words = said(with_parts(GRPO, batch=parts))
    assert "4 prompts × 16 answers = 64 answers a step" in words
    assert "120 steps = 480 prompts, 7 680 answers" in words
    assert "used for 4 optimizer steps, a part of it in each" in words
    words = said(with_parts(GRPO, batch={**parts, "updates_per_rollout": 2}))
    assert "used for 8 optimizer steps: 2 passes in 4 parts" in words
    assert "120 steps = 240 prompts" in words


def test_pairs_have_two_sides() -> None:
    raw = {"objective": {"type": "dpo"}, "batch": {"prompts_per_step": 32},
           "data": {"train": [{"source": "noisy-sort"}]}, "budget": {"max_steps": 10}}  # fmt: skip
    words = said(raw)
    assert "32 pairs × 2 sides = 64 answers a step" in words
    assert "10 steps = 320 pairs" in words


def test_rows_are_rows() -> None:
    raw = {"objective": {"type": "sft"}, "batch": {"prompts_per_step": 64}}
    assert "64 rows a step" in said(raw)


def test_a_bound_is_not_sold_as_a_measurement() -> None:
    raw = with_parts(GRPO, data={"train": [{"source": "/a/file.jsonl"}]})
    assert "at most" in said(raw)
    assert "about" not in said(raw).split("tokens (")[0]


def test_a_run_without_a_step_limit_says_what_ends_it() -> None:
    review = spec_review(with_parts(GRPO, budget={"max_steps": 0, "max_minutes": 30}))
    assert any("Ends after 30 minutes" in sentence for sentence in review["arithmetic"])
    assert review["forecast"]["steps"] is None and review["forecast"]["tokens"] is None


def test_a_forecast_claims_only_what_the_spec_decides() -> None:
    forecast = spec_review(GRPO)["forecast"]
    assert forecast["steps"] == 120
    assert forecast["tokens"] == 120 * tokens_per_step(spec_parse(GRPO))
    assert forecast["minutes"] is None


def test_a_number_outside_the_healthy_range_is_doubted_not_refused() -> None:
    review = spec_review(with_parts(GRPO, rollout={"group_size": 2}))
    assert review["errors"] == []
    assert warned(with_parts(GRPO, rollout={"group_size": 2})) == {
        "rollout.group_size": "2 is outside the usual 8 to 16"
    }


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        ({"data": {"eval": []}}, "data.eval"),
        ({"evaluation": {"every_steps": 500}}, "evaluation.every_steps"),
        ({"schedule": {"type": "cosine", "warmup_steps": 120}}, "schedule.warmup_steps"),
        ({"data": {"eval": [{"source": "noisy-sort"}]}}, "data.eval.0.split"),
    ],
)
def test_a_likely_mistake_is_pointed_at(parts: dict[str, Any], path: str) -> None:
    assert path in warned(with_parts(GRPO, **parts))


@pytest.mark.parametrize(
    ("knob", "number", "words", "most"),
    [
        ("gpus", 17, "17 are needed", "16 or less"),
        ("processes", 17, "17 are needed", "16 or less"),
    ],
)
def test_what_this_version_cannot_start_is_said_before_the_launch(
    knob: str, number: int, words: str, most: str
) -> None:
    batch = {"prompts_per_step": 64}
    others = {"gpus": 0} if knob == "processes" else {}
    review = spec_review(with_parts(GRPO, batch=batch, resources={**others, knob: number}))
    assert review["errors"] == []
    told = {one["path"]: one["message"] for one in review["warnings"]}[f"resources.{knob}"]
    assert told.startswith("it would wait and not start") and words in told
    assert told.endswith(f"set it to {most}")
    assert f"resources.{knob}" not in warned(with_parts(GRPO, resources={knob: 1}))


def test_problems_come_at_the_paths_of_the_form() -> None:
    raw = with_parts(GRPO, data={"train": [{"source": "noisy-sort", "options": {"noise": 7}}]})
    paths = [problem["path"] for problem in spec_review(raw)["errors"]]
    assert paths == ["data.train.0.options.noise"]


@pytest.mark.parametrize("value", ["NaN", float("nan"), float("inf"), "-inf"])
def test_numbers_that_are_none_are_refused(value: Any) -> None:
    found = spec_review(with_parts(GRPO, optimizer={"type": "adamw", "lr": value}))["errors"]
    assert "optimizer.lr" in {problem["path"] for problem in found}


@pytest.mark.parametrize(
    "raw", [None, 3, "text", [], [1], {"a": 1}, {"data": None}, {"data": {"train": 3}}]
)
def test_anything_at_all_has_a_review(raw: Any) -> None:
    review = spec_review(raw)
    assert review["errors"] and review["arithmetic"] == []


@pytest.mark.parametrize("recipe", recipes(), ids=lambda recipe: recipe.name)
def test_every_recipe_has_its_arithmetic_and_no_warning_without_reason(recipe: Any) -> None:
    review = spec_review(recipe.spec)
    assert not review["errors"]
    assert any("a step" in sentence for sentence in review["arithmetic"])


def test_a_playground_trains_nothing_and_says_so() -> None:
    raw = {"kind": "play", "play": {"models": ["one", "two", "three"], "idle_minutes": 2.5}}
    assert said(raw) == (
        "3 models are loaded and answer prompts, until the run is stopped or nobody has asked for 2.5 minutes."
    )
    assert set(spec_review(raw)["forecast"].values()) == {None}
