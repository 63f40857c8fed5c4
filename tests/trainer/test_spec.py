"""The spec: defaults that run, contradictions refused at their field, a hash that does not depend on order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trainer.spec import SpecError, spec_hash, spec_parse

SMALLEST: dict[str, Any] = {"rewards": [{"type": "exact-match"}]}


def problems(raw: Any) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        spec_parse(raw)
    return {problem.path: problem.message for problem in caught.value.problems}


def test_a_reward_is_all_that_the_defaults_lack() -> None:
    spec = spec_parse(SMALLEST)
    assert (spec.objective.type, spec.advantage.type) == ("grpo", "group-mean-std")
    assert "add at least one" in problems({})["rewards"]


def test_a_dump_reads_back_as_the_same_spec() -> None:
    spec = spec_parse(SMALLEST | {"objective": {"type": "grpo", "clip_high": 0.3}})
    again = spec_parse(json.loads(json.dumps(spec.model_dump(mode="json"))))
    assert again == spec
    assert spec_hash(again) == spec_hash(spec)


def test_the_hash_ignores_the_order_of_keys_and_sees_every_value() -> None:
    dump = spec_parse(SMALLEST).model_dump(mode="json")
    assert spec_hash(dict(reversed(dump.items()))) == spec_hash(dump)
    assert spec_hash(dump | {"seed": 1}) != spec_hash(dump)


@pytest.mark.parametrize(
    ("change", "path", "words"),
    [
        ({"objective": {"type": "grpo", "clip_low": 3}}, "objective.clip_low", "less than 1"),
        ({"objective": {"type": "nope"}}, "objective", "nope"),
        ({"rewards": [{"type": "exact-match", "x": 1}]}, "rewards.0.x", "not permitted"),
        ({"rewards": [{"type": "exact-match"}] * 2}, "rewards", "give one a name"),
        (
            {"objective": {"type": "dpo"}, "advantage": {"type": "group-mean-std"}},
            "advantage",
            "remove",
        ),
        (
            {"objective": {"type": "sft"}, "batch": {"updates_per_rollout": 2}},
            "batch.updates_per_rollout",
            "1",
        ),
        ({"rollout": {"group_size": 1}}, "rollout.group_size", "2 or more"),
        ({"data": {"max_prompt_tokens": 9, "max_tokens": 9}}, "data.max_prompt_tokens", "below"),
        ({"resources": {"gpus": -1}}, "resources.gpus", 'from 0 to 64, or "auto"'),
        ({"budget": {"max_steps": 0}}, "budget", "never end"),
        ({"diagnostics": ["unheard-of"]}, "diagnostics", "unheard-of"),
        (
            {"data": {"train": [{"source": "noisy-sort", "options": {"noise": 2}}]}},
            "data.train.0.options.noise",
            "less than",
        ),
        (
            {"data": {"train": [{"source": "a.csv", "options": {"noise": 1}}]}},
            "data.train.0",
            "built-in",
        ),
        ({"data": {"train": [{"source": "a.csv", "holdout": 0.1}]}}, "data.train.0", "split_by"),
        ({"kind": "evaluate"}, "data.eval", "held-out"),
        ({"modle": {}}, "modle", "not permitted"),
    ],
)
def test_it_names_the_field_and_what_to_change(
    change: dict[str, Any], path: str, words: str
) -> None:
    found = problems(SMALLEST | change)
    assert list(found) == [path]
    assert words in found[path]


def test_an_offline_objective_may_have_rewards_for_evaluation() -> None:
    spec = spec_parse(SMALLEST | {"objective": {"type": "dpo"}})
    assert spec.advantage is None
    assert not spec.online


def test_it_knows_the_run_it_waits_for() -> None:
    spec = spec_parse(SMALLEST | {"model": {"name": "run:abcdefghijkl"}})
    assert spec.waits_for == "abcdefghijkl"
    assert spec_parse(SMALLEST).waits_for == ""


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_what_is_no_table_is_refused_in_a_sentence(raw: Any) -> None:
    assert problems(raw)
