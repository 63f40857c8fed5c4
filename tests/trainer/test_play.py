"""What the spec says of a playground, and what may be asked of one."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from trainer.play import OPEN_MOST, PROMPT_MOST, Question
from trainer.problems import SpecError
from trainer.spec import spec_parse

PLAY: dict[str, Any] = {"kind": "play", "play": {"models": ["checkpoint:a", "run:b"]}}


def test_two_or_three_models_are_a_spec() -> None:
    spec = spec_parse(PLAY)
    assert spec_parse(spec.model_dump(mode="json")) == spec
    three = {**PLAY, "name": "try it", "play": {"models": ["a/b", "./c", "d"], "idle_minutes": 2}}
    assert spec_parse({**three, "model": {"dtype": "float32"}}).play.idle_minutes == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"play": {"models": ["a"]}}, "play.models: names 1;"),
        ({"play": {"models": ["a", "b", "c", "d"]}}, "play.models: names 4;"),
        ({"play": {"models": ["a", "starter"]}}, "play.models.1: starter is no trained model"),
        ({"play": {"models": ["a", " "]}}, "play.models.1:   is no trained model"),
        ({"play": {"models": ["a", "b"], "idle_minutes": 0}}, "play.idle_minutes: "),
        ({"model": {"name": "a"}}, "model.name: a playground names its models in play.models"),
        ({"model": {"revision": "main"}}, "model.revision: does nothing in a playground"),
        ({"rewards": [{"type": "exact-match"}]}, "rewards: does nothing in a playground"),
        ({"objective": {"type": "sft"}}, "objective: does nothing in a playground"),
        ({"evaluation": {"every_steps": 3}}, "evaluation: does nothing in a playground"),
        ({"resources": {"gpus": 2}}, "resources: a playground is one process"),
        ({"kind": "train"}, 'play.models: are for a run of kind "play"'),
    ],
)
def test_what_does_not_go_together_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(SpecError) as told:
        spec_parse({**PLAY, **change})
    assert said in str(told.value)


def test_a_question_says_how_many_answers_it_gets() -> None:
    question = Question.model_validate(
        {"prompt": "p", "voices": ["a", "b", "blend"], "blend": {"weight": 2}, "samples": 3}
    )
    assert (question.expected, question.needs_base) == (9, False)
    proxy = {"prompt": "p", "voices": ["blend"], "blend": {"mode": "proxy", "weight": 1}}
    assert Question.model_validate(proxy).needs_base
    assert Question.model_validate({"prompt": "p", "chat": True}).given == [
        {"role": "user", "content": "p"}
    ]
    assert OPEN_MOST * PROMPT_MOST < 1 << 17, "an answer of the server carries all that wait"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "x" * (PROMPT_MOST + 1)}, "prompt"),
        ({"voices": []}, "voices"),
        ({"voices": ["a", "a"]}, "voices: each answers once"),
        ({"voices": ["blend"]}, "blend: goes together"),
        ({"blend": {"weight": 1}}, "blend: goes together"),
        ({"voices": ["blend"], "blend": {"weight": 3.1}}, "blend.weight"),
        ({"voices": ["blend"], "blend": {"weight": -1.1}}, "blend.weight"),
        ({"voices": ["blend"], "blend": {"weight": "NaN"}}, "blend.weight"),
        ({"temperature": 0, "samples": 2}, "samples: at a temperature of 0"),
        ({"max_new_tokens": 1025}, "max_new_tokens"),
        ({"samples": 5}, "samples"),
        ({"whatever": 1}, "whatever"),
    ],
)
def test_questions_have_bounds(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as told:
        Question.model_validate({"prompt": "p", **change})
    assert said in str(told.value)
