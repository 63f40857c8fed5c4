"""What the spec says about evaluation, and what of it does not go together."""

from __future__ import annotations

from typing import Any

import pytest

from trainer.problems import SpecError
from trainer.spec import spec_parse

EVALUATE: dict[str, Any] = {
    "kind": "evaluate",
    "data": {"eval": [{"source": "noisy-sort"}]},
    "rewards": [{"type": "exact-match"}],
}
JUDGE = {"type": "pairwise-judge", "url": "http://127.0.0.1:1/v1", "model": "m"}


def problems(raw: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as told:
        spec_parse(raw)
    return "\n".join(str(problem) for problem in told.value.problems)


def test_each_kind_of_evaluation_is_a_spec() -> None:
    assert spec_parse(EVALUATE).evaluation.answers == "none"
    every = {**EVALUATE, "evaluation": {"answers": "all", "top_p": 0.9, "top_k": 5, "min_p": 0.1}}
    assert spec_parse(every).evaluation.top_k == 5
    assert spec_parse({**every, "rewards": []}).rewards == ()
    assert spec_parse({**EVALUATE, "rewards": [], "evaluation": {"readings": True}})
    judged = spec_parse({**EVALUATE, "rewards": [], "evaluation": {"judge": JUDGE}})
    assert spec_parse(judged.model_dump(mode="json")) == judged


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rewards": []}, "rewards: an evaluation needs at least one reward"),
        ({"data": {"eval": []}}, "data.eval: an evaluation needs"),
        ({"evaluation": {"answers": "all", "readings": True}}, "evaluation.readings: nothing is"),
        ({"evaluation": {"readings": True}}, "rewards: nothing is scored"),
        ({"evaluation": {"judge": JUDGE}}, "rewards: nothing is scored"),
        ({"evaluation": {"judge": JUDGE, "answers": "all"}}, "evaluation.judge: a judge compares"),
        (
            {"evaluation": {"temperature": 0, "top_p": 0.9}},
            "evaluation.top_p: at a temperature of 0",
        ),
        ({"evaluation": {"temperature": 0, "samples_per_prompt": 2}}, "evaluation.temperature"),
        ({"rewards": [{"type": "exact-match"}] * 2}, "rewards: two are called exact-match"),
        ({"resources": {"gpus": 0, "processes": 2}}, "an evaluation runs in one process"),
    ],
)
def test_what_does_not_go_together_is_named(change: dict[str, Any], said: str) -> None:
    assert said in problems({**EVALUATE, **change})


def test_a_cut_prompt_is_no_prompt_of_an_answer() -> None:
    data = {**EVALUATE["data"], "overlong": "truncate"}
    assert spec_parse({**EVALUATE, "data": data})
    said = problems({**EVALUATE, "data": data, "evaluation": {"answers": "all"}})
    assert "data.overlong: an answer to a prompt that was cut" in said


@pytest.mark.parametrize("asked", [{"answers": "all"}, {"readings": True}, {"judge": JUDGE}])
def test_training_keeps_no_answers(asked: dict[str, Any]) -> None:
    said = problems({**EVALUATE, "kind": "train", "evaluation": asked})
    assert f"evaluation.{next(iter(asked))}: is for a run of kind" in said


def test_what_says_nothing_of_an_answer_is_no_reward_of_training() -> None:
    rewards = [{"type": "exact-match"}, {"type": "log-likelihood"}]
    assert "rewards: log-likelihood says how likely" in problems({"rewards": rewards})
    assert spec_parse({**EVALUATE, "rewards": rewards})
    assert spec_parse({"objective": {"type": "sft"}, "rewards": rewards})
