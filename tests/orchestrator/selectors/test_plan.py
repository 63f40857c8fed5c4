"""The plan of a run: spans, sums, bottleneck, estimates beside measurements, and words where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.models import Node, Run
from orchestrator.selectors.plan import plan_page, plan_read
from orchestrator.selectors.plan_facts import facts_of
from orchestrator.selectors.plan_lines import lines_read
from tests.orchestrator.planned import GRPO, planned
from tests.orchestrator.telemetry import metrics, push, spans

pytestmark = pytest.mark.django_db


@pytest.fixture
def grpo(run: Run) -> Run:
    Run.objects.filter(pk=run.pk).update(spec=GRPO)
    run.refresh_from_db()
    return run


def test_it_adds_up_and_names_the_bottleneck(grpo: Run) -> None:
    planned(grpo, 3, ("rollout", 6.0), ("reward", 1.0), ("update", 3.0))
    plan = plan_read(grpo)
    assert [one["phase"] for one in plan["phases"]] == ["rollout", "reward", "update"]
    assert [one["p50_s"] for one in plan["phases"]] == [6.0, 1.0, 3.0]
    assert sum(one["share"] for one in plan["phases"]) == pytest.approx(1)
    assert plan["bottleneck"] == {
        "phase": "rollout", "process": "trainer", "share": pytest.approx(0.6),
        "words": "Rollout is the bottleneck: 60 % of the time.",
    }  # fmt: skip
    assert plan["suggestions"] == [] and plan["words"] == ""
    assert (plan["kept"], plan["first_step"], plan["last_step"]) == (3, 1, 3)
    assert plan["step_p50_s"] == 10.0


def test_a_phase_without_a_sound_basis_says_so(grpo: Run) -> None:
    planned(grpo, 3, ("rollout", 6.0), ("reward", 1.0), ("update", 3.0))
    rollout, reward, update = plan_read(grpo)["phases"]
    assert reward["estimated_s"] is None and reward["basis"] == "no estimate"
    assert rollout["estimated_s"] > 0 and rollout["basis"].startswith("from arithmetic")
    whole = plan_read(grpo)["estimated_step_s"]
    assert whole == pytest.approx(rollout["estimated_s"] + update["estimated_s"])


def test_an_estimate_of_a_step_must_cover_what_its_time_goes_to(grpo: Run) -> None:
    planned(grpo, 3, ("rollout", 1.0), ("reward", 8.0), ("update", 1.0))
    assert plan_read(grpo)["estimated_step_s"] is None


def test_the_newest_steps_are_drawn_and_others_can_be_asked_for(grpo: Run) -> None:
    planned(grpo, 30)
    plan = plan_read(grpo)
    assert plan["steps"] == [19, 30] and [line["step"] for line in plan["lines"]] == list(
        range(19, 31)
    )
    plan = plan_read(grpo, (4, 5))
    assert [line["step"] for line in plan["lines"]] == [4, 5]
    assert plan["lines"][0]["spans"][1] == {"phase": "update", "start": 2.0, "end": 3.0}
    assert plan["kept"] == 30, "the sums are of all that is kept"
    assert plan_read(grpo, (90, 99))["lines"] == []


def test_several_processes_share_the_rows(grpo: Run) -> None:
    lines = []
    for step in range(1, 21):
        lines += [
            spans(3 * step - 2, step, ("wait", 6.0), ("update", 2.0)),
            spans(3 * step - 1, step, ("rollout", 6.0), ("wait", 2.0), process="generator 0"),
            spans(3 * step, step, ("rollout", 3.0), ("wait", 5.0), process="generator 1"),
        ]
    push(grpo, lines)
    plan = plan_read(grpo)
    assert plan["processes"] == ["trainer", "generator 0", "generator 1"]
    assert len({line["step"] for line in plan["lines"]}) == 4
    assert plan["bottleneck"]["words"] == (
        "Rollout in generator 0 is the bottleneck: 75 % of the critical path."
    )
    rows = {(one["process"], one["phase"]): one for one in plan["phases"]}
    assert rows["generator 1", "wait"]["share"] == pytest.approx(5 / 8)
    page = plan_page(grpo)
    assert page["several"] and page["rows"][0]["process"] == "trainer"


def test_of_processes_that_do_about_the_same_the_first_one_is_estimated(grpo: Run) -> None:
    planned(grpo, 2, ("rollout", 5.0), ("update", 2.0))
    other = (("rollout", 6.0), ("update", 1.0))
    push(grpo, [spans(step + 3, step, *other, process="rank 1") for step in (1, 2)])
    estimated = {
        (one["process"], one["phase"])
        for one in plan_read(grpo)["phases"]
        if one["estimated_s"] is not None
    }
    assert estimated == {("trainer", "rollout"), ("trainer", "update")}


def test_evaluation_that_takes_too_much_is_told(grpo: Run) -> None:
    push(grpo, [spans(seq, seq, ("eval", 3.0), ("update", 7.0)) for seq in range(1, 4)])
    (one,) = plan_read(grpo)["suggestions"]
    assert one["field"] == "evaluation.every_steps" and "(5 now)" in one["text"]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "with the first step; loading"),
        ({"kind": "evaluate"}, "when the evaluation is done"),
        ({"state": "queued"}, "once the run works"),
        ({"state": "paused"}, "once the run works"),
        ({"state": "failed"}, "ended before a step"),
    ],
)
def test_where_there_is_none_it_says_when_there_will_be(
    run: Run, facts: dict[str, str], words: str
) -> None:
    for name, value in facts.items():
        setattr(run, name, value)
    plan = plan_read(run)
    assert words in plan["words"]
    assert (plan["kept"], plan["lines"], plan["phases"], plan["bottleneck"]) == (0, [], [], None)


def test_what_came_behind_the_last_step_alone_is_no_plan(run: Run) -> None:
    push(run, [spans(1, 3, ("checkpoint", 1.0), steps=0)])
    assert plan_read(run)["words"] and plan_read(run)["bottleneck"] is None


def test_the_table_has_a_cell_for_each_phase_of_a_step(grpo: Run) -> None:
    push(grpo, [spans(1, 1, ("reward", 1.0), ("update", 2.0), ("reward", 0.5)), spans(2, 2)])
    page = plan_page(grpo)
    assert [one["label"] for one in page["columns"]] == ["Rollout", "Reward", "Update"]
    assert [row["cells"] for row in page["rows"]] == [[None, 1.5, 2.0], [2.0, None, 1.0]]


def test_facts_come_from_the_spec_the_metrics_and_the_node(grpo: Run, node: Node) -> None:
    card = {"index": 1, "name": "X", "memory": 80 * 2**30}
    node.inventory = {"engines": {"native": "2", "vllm": "0"}, "gpus": [card]}
    node.save()
    grpo.attempts.update(gpus=[1])
    spec: dict[str, Any] = {
        **GRPO, "batch": {"tokens_per_microbatch": 100, "packing": "none"},
        "checkpoint": {"every_steps": 7, "background": False},
        "rollout": {"max_staleness": 2}, "objective": {"type": "grpo", "beta": 0.01},
    }  # fmt: skip
    Run.objects.filter(pk=grpo.pk).update(spec=spec)
    planned(grpo, 2, ("wait", 1.0), ("update", 1.0), device="cuda:0")
    values = {"batch/pad_frac": 0.4, "num_tokens": 8000.0, "gpu_mem_mb": 20 * 1024.0}
    push(grpo, [metrics(4, 10, **values)])
    run = Run.objects.select_related("node").get(pk=grpo.pk)
    from orchestrator.selectors.plan_basis import starts_of

    facts = facts_of(run, starts_of([run])[run.pk], lines_read(run))
    assert facts.gpu and facts.engine == "native" and facts.node_engines == {"native", "vllm"}
    assert (facts.packing, facts.padding, facts.micro_batches) == ("none", 0.4, 8.0)
    assert facts.memory_left == pytest.approx(0.75)
    assert (facts.staleness_field, facts.staleness) == ("rollout.max_staleness", 2.0)
    assert (facts.evaluates, facts.saves, facts.background) == (5, 7, False)
    assert (facts.rewards, facts.beta, facts.waits) == (("exact-match",), 0.01, {"trainer": 0.5})


def test_a_run_that_does_one_thing_alone_has_no_bottleneck(run: Run) -> None:
    push(run, [spans(1, 0, ("eval", 3.0), ("other", 1.0))])
    plan = plan_read(run)
    assert plan["bottleneck"] is None and plan["phases"][0]["share"] == 0.75
    assert plan["words"] == "" and plan["suggestions"] == []


@pytest.mark.parametrize("spec", [{}, {"batch": 3, "rewards": "x", "rollout": None}, {"kind": 7}])
def test_a_stored_spec_may_be_anything(run: Run, spec: dict[str, Any]) -> None:
    Run.objects.filter(pk=run.pk).update(spec=spec)
    run.refresh_from_db()
    planned(run)
    assert plan_read(run)["bottleneck"]["phase"] == "rollout"
