"""Specs that train a reward model: what has no effect is refused with a sentence."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.spec import RunSpec, SpecError, spec_parse


def spec(**parts: Any) -> RunSpec:
    return spec_parse({"objective": {"type": "bradley-terry"}, **parts})


def test_a_plain_spec_is_good() -> None:
    assert spec(rollout={"group_size": 8}, evaluation={"every_steps": 5}).rewards == ()
    assert spec(objective={"type": "rating-regression"}).objective.learns_from == "ratings"


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"rewards": [{"type": "exact-match"}]},
            "rewards: bradley-terry trains a reward model, which writes no answers to grade",
        ),
        ({"adapter": {"type": "lora"}}, 'adapter.type: .* set it to "none"'),
        ({"reference": {"name": "starter"}}, "reference.name: .*compares with no reference"),
        ({"rollout": {"temperature": 0.5}}, "rollout.temperature: .*writes no answers; remove it"),
        (
            {"evaluation": {"samples_per_prompt": 4}},
            "evaluation.samples_per_prompt: .*writes no answers",
        ),
        ({"advantage": {"type": "group-mean-std"}}, "advantage: bradley-terry learns from pairs"),
        ({"batch": {"updates_per_rollout": 2}}, "bradley-terry has no rollouts"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_has_no_effect_is_refused(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        spec(**parts)


def test_specs_of_language_models_are_left_alone() -> None:
    found = spec_parse(
        {
            "objective": {"type": "dpo"},
            "rewards": [{"type": "exact-match"}],
            "rollout": {"temperature": 0.5},
        }
    )
    assert found.rollout.temperature == 0.5
