"""Estimates: arithmetic where a phase is passes of the model, earlier runs where there are any, else none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.selectors.plan_estimate import (
    MOVED,
    Speed,
    arithmetic,
    from_earlier,
    work_of,
)
from trainer.spec import RunSpec, spec_parse

SPEED = Speed(flops=1e9, weights=1e6, decode=0.002)


def spec(**words: Any) -> RunSpec:
    base: dict[str, Any] = {
        "objective": {"type": "grpo"},
        "data": {
            "train": [{"source": "some/dataset"}],
            "eval": [{"source": "some/dataset", "split": "test", "limit": 10}],
            "max_prompt_tokens": 50,
            "max_tokens": 200,
        },
        "rewards": [{"type": "exact-match"}],
        "rollout": {"group_size": 4, "max_new_tokens": 20},
        "batch": {"prompts_per_step": 8, "tokens_per_microbatch": 100},
    }
    return spec_parse({**base, **words})


def test_an_update_is_six_operations_a_weight_and_token() -> None:
    found = arithmetic(spec(), SPEED)
    tokens = 8 * 4 * (50 + 20)
    assert found["update"].seconds == pytest.approx(6 * 1e6 * tokens / 1e9)
    assert found["update"].basis.startswith("from arithmetic: 6 operations a weight and token")
    assert "1 GFLOP/s" in found["update"].basis and "2,240 tokens at most" in found["update"].basis


def test_answers_that_share_their_prompt_count_it_once() -> None:
    found = arithmetic(spec(), replace(SPEED, shared=True))
    assert found["update"].seconds == pytest.approx(6 * 1e6 * 8 * (50 + 4 * 20) / 1e9)


def test_decoding_is_bound_by_its_steps() -> None:
    found = arithmetic(spec(), SPEED)
    # Two prompts of 4 answers and 70 tokens each fit the 800 tokens that are sampled at once.
    wanted = 4 * 20 * 0.002 + 2 * 1e6 * 8 * (50 + 4 * 20) / 1e9
    assert found["rollout"].seconds == pytest.approx(wanted)
    assert "80 decoding steps of 2 ms" in found["rollout"].basis
    # Ten rows of one answer: 700 tokens are one pass.
    assert found["eval"].seconds == pytest.approx(20 * 0.002 + 2 * 1e6 * 10 * 70 / 1e9)


def test_there_is_no_number_without_a_sound_basis() -> None:
    assert set(arithmetic(spec(), SPEED)) == {"update", "rollout", "eval"}
    assert set(arithmetic(spec(), Speed(1e9, 1e6))) == {"update"}, "another engine decodes"
    assert arithmetic(spec(), Speed(0.0, 1e6, 1.0)) == {}
    whole = {"train": [{"source": "some/dataset"}], "eval": [{"source": "x", "limit": 0}]}
    assert "eval" not in arithmetic(spec(data=whole), SPEED), "nobody knows how many rows that is"


def test_a_reference_is_two_operations_a_weight_and_token() -> None:
    with_kl = spec(objective={"type": "grpo", "beta": 0.1})
    assert arithmetic(with_kl, SPEED)["logprob"].seconds == pytest.approx(2 * 1e6 * 2240 / 1e9)


def test_learning_from_rows_decodes_nothing() -> None:
    found = arithmetic(spec(objective={"type": "sft"}, rewards=[]), SPEED)
    assert set(found) == {"update"}
    assert found["update"].seconds == pytest.approx(6 * 1e6 * 8 * 200 / 1e9)
    pairs = arithmetic(spec(objective={"type": "dpo"}, rewards=[]), SPEED)
    assert pairs["update"].seconds == pytest.approx(2 * found["update"].seconds), "two sides"
    assert pairs["logprob"].seconds == pytest.approx(pairs["update"].seconds / 3)


def test_an_evaluation_run_has_no_update() -> None:
    assert set(arithmetic(spec(kind="evaluate"), SPEED)) == {"eval"}


def test_earlier_runs_tell_the_seconds_of_a_unit_of_work() -> None:
    work = work_of(spec())
    seconds = {"rollout": 2.0, "update": 1.0, "data": 0.01}
    found = from_earlier(work, [(work, seconds)])
    assert {phase: one.seconds for phase, one in found.items()} == pytest.approx(seconds)
    assert found["rollout"].basis == "from 1 earlier run of this size on this kind of node"
    more = work_of(spec(rollout={"group_size": 5, "max_new_tokens": 20}))
    assert from_earlier(more, [(work, seconds)])["rollout"].seconds == pytest.approx(2.5)


def test_of_several_earlier_runs_the_middle_one_counts() -> None:
    runs = [({"update": 10.0}, {"update": seconds}) for seconds in (1.0, 9.0, 2.0)]
    found = from_earlier({"update": 10.0, "sync": 1.0}, runs)
    assert found["update"].seconds == 2.0 and "sync" not in found
    assert found["update"].basis == "from 3 earlier runs of this size on this kind of node"


def test_a_run_of_far_more_work_tells_nothing() -> None:
    assert (
        from_earlier({"update": 10.0}, [({"update": 10.0 * MOVED * 1.01}, {"update": 1.0})]) == {}
    )
    assert (
        from_earlier({"update": 10.0}, [({"update": 10.0 / MOVED / 1.01}, {"update": 1.0})]) == {}
    )
    assert from_earlier({"update": 10.0}, [({"update": 10.0 * MOVED}, {"update": 3.0})])
