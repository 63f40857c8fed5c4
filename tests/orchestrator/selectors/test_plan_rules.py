"""Each rule speaks on its side of its threshold, names a field of the spec, and says why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.selectors import plan_rules
from orchestrator.selectors.plan_rules import Facts, suggestions
from trainer.spec import RunSpec

QUIET = Facts(
    {"rollout": 0.4, "update": 0.4, "eval": 0.15, "checkpoint": 0.05}, evaluates=50, saves=50
)


def fields(facts: Facts) -> list[str]:
    return [one.field for one in suggestions(facts)]


def test_nothing_stands_out_where_nothing_does() -> None:
    assert suggestions(QUIET) == [] and suggestions(Facts({})) == []


GPU: dict[str, Any] = {"gpu": True, "node_engines": frozenset({"native", "vllm"})}
WAITING: dict[str, Any] = {"learner": "trainer", "staleness_field": "rollout.max_staleness"}
CASES: dict[str, tuple[Facts, str, dict[str, Any]]] = {
    # The facts in which a rule speaks, its field, and a change that silences it.
    "evaluation": (
        Facts({"eval": 0.21, "update": 0.4}, evaluates=5),
        "evaluation.every_steps",
        {"path": {"eval": 0.20, "update": 0.4}},
    ),
    "no evaluation between the steps": (
        Facts({"eval": 0.5, "update": 0.4}, evaluates=5),
        "evaluation.every_steps",
        {"evaluates": 0},
    ),
    "checkpoints": (
        Facts({"checkpoint": 0.11}, saves=2),
        "checkpoint.every_steps",
        {"path": {"checkpoint": 0.10}},
    ),
    "checkpoints in the way": (
        Facts({"checkpoint": 0.11}, background=False),
        "checkpoint.background",
        {"background": True},
    ),
    "engine": (Facts({"rollout": 0.5}, **GPU), "rollout.engine", {"path": {"rollout": 0.49}}),
    "engine on a processor": (Facts({"rollout": 0.9}, **GPU), "rollout.engine", {"gpu": False}),
    "engine that is there": (Facts({"rollout": 0.9}, **GPU), "rollout.engine", {"engine": "vllm"}),
    "engine that no node has": (
        Facts({"rollout": 0.9}, **GPU),
        "rollout.engine",
        {"node_engines": frozenset({"native"})},
    ),
    "packing": (
        Facts({"update": 0.5}, padding=0.31, packing="none"),
        "batch.packing",
        {"padding": 0.30},
    ),
    "padding in packed rows": (
        Facts({"update": 0.5}, padding=0.31),
        "batch.tokens_per_microbatch",
        {"path": {"update": 0.49}},
    ),
    "small micro-batches": (
        Facts({"update": 0.5}, gpu=True, micro_batches=8, memory_left=0.4),
        "batch.tokens_per_microbatch",
        {"memory_left": 0.39},
    ),
    "few micro-batches": (
        Facts({"update": 0.5}, gpu=True, micro_batches=8, memory_left=0.9),
        "batch.tokens_per_microbatch",
        {"micro_batches": 7.9},
    ),
    "rewards": (
        Facts({"reward": 0.3}, rewards=("math-answer", "length-window")),
        "rewards",
        {"path": {"reward": 0.29}},
    ),
    "reference": (
        Facts({"logprob": 0.25}, beta=0.001),
        "objective.beta",
        {"beta": 0.04},
    ),
    "sync": (
        Facts({"sync": 0.16}, engine="vllm"),
        "batch.prompts_per_step",
        {"path": {"sync": 0.15}},
    ),
    "a learner that waits": (
        Facts({"rollout": 1.0}, waits={"trainer": 0.31}, **WAITING),
        "rollout.max_staleness",
        {"waits": {"trainer": 0.30}},
    ),
    "a generator that waits": (
        Facts({"update": 1.0}, waits={"trainer": 0.1, "generator 0": 0.6}, **WAITING),
        "rollout.max_staleness",
        {"staleness_field": ""},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_rule_speaks_beyond_its_threshold_only(case: str) -> None:
    facts, field, silence = CASES[case]
    assert fields(facts) == [field]
    assert fields(replace(facts, **silence)) == []


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_names_the_field_the_rule_and_a_source(case: str) -> None:
    facts, field, _ = CASES[case]
    (one,) = suggestions(facts)
    assert field in one.text and one.text.endswith(".") and one.rule and one.source


def test_every_rule_has_a_case() -> None:
    spoken = {rule for rule in plan_rules.RULES for facts, _, _ in CASES.values() if rule(facts)}
    assert spoken == set(plan_rules.RULES)


def test_the_fields_are_those_of_the_spec() -> None:
    """A suggestion that names what is not there would be of no use; staleness comes from the spec itself."""
    known = {name: set(RunSpec.model_fields) for name in ("",)}
    for _, field, _ in CASES.values():
        section, _, knob = field.partition(".")
        assert section in known[""], field
        if knob and section not in ("objective",) and "staleness" not in knob:
            kind: Any = RunSpec.model_fields[section].annotation
            assert knob in kind.model_fields, field


def test_the_largest_share_comes_first() -> None:
    facts = Facts({"eval": 0.3, "checkpoint": 0.4}, evaluates=1, saves=1)
    assert fields(facts) == ["checkpoint.every_steps", "evaluation.every_steps"]


def test_which_side_waits_decides_which_way_the_bound_moves() -> None:
    waits = {"waits": {"trainer": 0.5}, "staleness": 1.0, **WAITING}
    (learner,) = suggestions(Facts({}, **waits))
    assert "raise rollout.max_staleness (1 now)" in learner.text and "split" in learner.text
    # Both wait for each other: the bound holds the generator back.
    (both,) = suggestions(Facts({}, **{**waits, "waits": {"trainer": 0.4, "generator 0": 0.6}}))
    assert "raise rollout.max_staleness" in both.text
    (generator,) = suggestions(Facts({}, **{**waits, "waits": {"generator 0": 0.5}}))
    assert "lower rollout.max_staleness" in generator.text and "colocate" in generator.text
    (turns,) = suggestions(Facts({}, **{**waits, "staleness": 0.0, "waits": {"generator": 0.5}}))
    assert "raise rollout.max_staleness (0 now)" in turns.text and "colocate" in turns.text
