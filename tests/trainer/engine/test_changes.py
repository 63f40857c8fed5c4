"""Live changes: applied at a step boundary, journalled, and repeated where they were by whoever goes on."""

from __future__ import annotations

import json

import pytest

from trainer.control import Control
from trainer.engine import checkpoint
from trainer.engine.changes import Applied, history, past_changes
from trainer.engine.progress import Report
from trainer.journal import Journal
from trainer.rundir import RunDir

GRPO = ["objective.type=grpo", "budget.max_steps=8", "checkpoint.every_steps=2"]
HARDER = {"optimizer.lr": 2e-3, "rollout.temperature": 0.8, "rewards.1.weight": 0.5}


class Killed(BaseException):
    """Stands for a kill -9: nothing is saved, nothing is said."""


@pytest.fixture
def act(monkeypatch):
    """Do something when an attempt has written the metrics of a step."""
    plan = {}
    write = Report.metrics

    def metrics(self, at, values):
        write(self, at, values)
        if "loss" in values and (deed := plan.pop(at, None)):
            deed()

    monkeypatch.setattr(Report, "metrics", metrics)
    return plan


def order(runs, name, attempt=1, **words):
    return lambda: Control(**words).write(runs.dir(name).attempt(attempt).control)


def alerts(runs, name, code, attempt=1):
    return [e for e in runs.events(name, attempt) if e["type"] == "alert" and e["code"] == code]


def of(runs, name, key):
    return {step: value for (step, found), value in runs.metrics(name).items() if found == key}


def test_a_change_counts_from_the_next_step_and_is_told_with_old_and_new(runs, act):
    act[3] = order(runs, "run", knobs={"optimizer.lr": 5e-3, "rewards.1.weight": 0.25})
    assert runs.run("run", *GRPO, "schedule.type=constant", "schedule.warmup_steps=0") == 0
    assert of(runs, "run", "learning_rate") == {s: 1e-2 if s <= 3 else 5e-3 for s in range(1, 9)}
    (told,) = alerts(runs, "run", "knobs")
    assert told["message"] == "from step 4: optimizer.lr 0.01 → 0.005, rewards.1.weight 1.0 → 0.25"
    assert told["data"]["step"] == 4
    assert told["data"]["changes"][0] == {"path": "optimizer.lr", "old": 0.01, "new": 0.005}


def test_the_way_back_to_the_specs_value_is_one_order_without_the_knob(runs, act):
    act[2] = order(runs, "run", knobs={"optimizer.lr": 5e-3})
    act[5] = order(runs, "run", knobs={})
    assert runs.run("run", *GRPO, "schedule.type=constant", "schedule.warmup_steps=0") == 0
    rates = of(runs, "run", "learning_rate")
    assert [rates[step] for step in range(1, 9)] == [1e-2] * 2 + [5e-3] * 3 + [1e-2] * 3
    assert [e["data"]["knobs"] for e in alerts(runs, "run", "knobs")] == [
        {"optimizer.lr": 5e-3},
        {},
    ]


def test_a_temperature_waits_until_the_batch_that_was_sampled_with_the_old_one_is_used_up(
    runs, act
):
    act[1] = order(runs, "run", knobs={"rollout.temperature": 0.7})
    assert runs.run("run", *GRPO, "batch.updates_per_rollout=4") == 0
    (told,) = alerts(runs, "run", "knobs")
    assert told["data"]["step"] == 5
    # The first update on a batch is on-policy: with one temperature on both sides its ratio is 1.
    assert of(runs, "run", "rollout/logp_diff_max")[5] < 1e-4


def test_a_knob_that_cannot_change_is_refused_once_and_changes_nothing(runs, act):
    act[2] = order(runs, "run", knobs={"seed": 3})
    assert runs.run("run", *GRPO) == 0
    (told,) = alerts(runs, "run", "knobs")
    assert (told["level"], told["message"]) == (
        "warning",
        "refused: seed: cannot be changed while the run works",
    )


@pytest.mark.parametrize("kind", ["grpo", "grpo-two-updates", "dpo"])
def test_a_killed_run_repeats_its_changes_to_the_bit(runs, act, kind):
    base = {"grpo": GRPO, "dpo": ["objective.type=dpo", *GRPO[1:]]}.get(kind)
    base = base or [*GRPO, "batch.updates_per_rollout=2", "objective.beta=0.05"]
    changes = HARDER if kind != "dpo" else {"optimizer.lr": 2e-3, "objective.beta": 0.4}
    base = [*base, "checkpoint.every_steps=0"]
    act[4] = order(runs, "calm", knobs=changes)
    assert runs.run("calm", *base) == 0

    def die():
        raise Killed

    # Saved at 1 on request, changed after 4, dead at 6: the second attempt does 2 to 6 again.
    act |= {1: order(runs, "killed", asks={"save": 1})}
    act |= {4: order(runs, "killed", knobs=changes, asks={"save": 1}), 6: die}
    assert runs.run("killed", *base) == 1
    assert runs.dir("killed").checkpoint_steps() == [1]
    attempt = runs.dir("killed").attempt(2)
    attempt.path.mkdir()
    Control(knobs=changes, asks={"save": 1}).write(attempt.control)
    assert runs.resume("killed", "--attempt", "2") == 0
    assert [e["data"]["step"] for e in alerts(runs, "killed", "knobs", 2)] == [5]
    assert alerts(runs, "killed", "asked", 2) == []
    assert runs.metrics("killed") == runs.metrics("calm")
    assert runs.checkpoint_bytes("killed", 8) == runs.checkpoint_bytes("calm", 8)


def test_a_resumed_run_without_an_order_keeps_what_it_had(runs, act):
    act[3] = order(runs, "run", knobs={"optimizer.lr": 5e-3})
    act[5] = order(runs, "run", want="stop", knobs={"optimizer.lr": 5e-3})
    constant = ["schedule.type=constant", "schedule.warmup_steps=0"]
    assert runs.run("run", *GRPO, *constant) == 3
    assert runs.resume("run") == 0
    assert of(runs, "run", "learning_rate")[8] == 5e-3


def test_somebody_who_decides_anew_voids_what_would_be_repeated(runs, act):
    base = [*GRPO, "schedule.type=constant", "schedule.warmup_steps=0", "checkpoint.every_steps=0"]

    def die():
        raise Killed

    act |= {1: order(runs, "run", asks={"save": 1})}
    act |= {5: order(runs, "run", knobs={"optimizer.lr": 5e-3}, asks={"save": 1}), 7: die}
    assert runs.run("run", *base) == 1
    attempt = runs.dir("run").attempt(2)
    attempt.path.mkdir()
    Control(knobs={"optimizer.lr": 5e-3}).write(attempt.control)
    act[3] = order(runs, "run", attempt=2, knobs={"optimizer.lr": 1e-3})
    assert runs.resume("run", "--attempt", "2") == 0
    rates = of(runs, "run", "learning_rate")
    assert [rates[step] for step in range(1, 9)] == [1e-2] * 3 + [1e-3] * 5


def test_saving_and_evaluating_happen_at_once_on_request_and_once(runs, act):
    quiet = ["evaluation.every_steps=0", "checkpoint.every_steps=0", "checkpoint.keep_last=5"]
    act[3] = order(runs, "run", asks={"save": 1})
    act[5] = order(runs, "run", asks={"save": 1, "evaluate": 1})
    assert runs.run("run", *GRPO[:2], *quiet) == 0
    assert [e["step"] for e in runs.events("run") if e["type"] == "checkpoint"] == [3, 8]
    assert sorted(of(runs, "run", "eval/reward")) == [0, 5, 8]
    assert [e["message"] for e in alerts(runs, "run", "asked")] == [
        "saved at step 3, as asked",
        "evaluated at step 5, as asked",
    ]


def test_a_request_to_evaluate_without_held_out_rows_says_so(runs, act):
    act[1] = order(runs, "run", asks={"evaluate": 1})
    assert runs.run("run", *GRPO, "data.eval=[]") == 0
    assert alerts(runs, "run", "asked")[0]["message"] == (
        "nothing to evaluate on: data.eval is empty"
    )


def test_of_two_attempts_the_later_one_voids_what_the_earlier_did_behind_its_step():
    def told(attempt, step, rate):
        return {"attempt": attempt, "step": step, "knobs": {"lr": rate}}

    found = history([told(1, 5, 1), told(1, 9, 2), told(2, 7, 3), {"attempt": 2, "asks": {}}])
    assert found == [Applied(1, 5, {"lr": 1}), Applied(2, 7, {"lr": 3})]


def test_changes_of_another_machine_are_read_unless_the_journal_is_here(tmp_path):
    run = RunDir(tmp_path)
    for number in (1, 3):
        run.attempt(number).path.mkdir()
    far = [
        {"attempt": 1, "step": 2, "knobs": {"optimizer.lr": 9}},
        {"attempt": 2, "step": 4, "knobs": {"optimizer.lr": 2}},
        {"attempt": 2, "asks": {"save": 2}},
    ]
    run.attempt(3).past.write_text(json.dumps(far))
    with Journal(run.attempt(1).journal("trainer")) as journal:
        data = {"step": 3, "knobs": {"optimizer.lr": 1}, "changes": []}
        journal.append("alert", level="info", code="knobs", message="", step=2, data=data)
    past, done = past_changes(run, 3)
    assert [(one.attempt, one.step) for one in past] == [(1, 3), (2, 4)]
    assert done == {"save": 2}


def test_a_run_whose_new_end_is_saved_already_saves_it_as_its_end(runs, act):
    def die():
        raise Killed

    act[5] = die
    assert runs.run("run", *GRPO, "checkpoint.background=false") == 1
    assert runs.dir("run").checkpoint_steps()[-1] == 4
    attempt = runs.dir("run").attempt(2)
    attempt.path.mkdir()
    Control(knobs={"budget.max_steps": 4}).write(attempt.control)
    assert runs.resume("run", "--attempt", "2") == 0
    told = [e for e in runs.events("run", 2) if e["type"] == "checkpoint"]
    assert (told[-1]["step"], told[-1]["final"]) == (4, True)
    assert checkpoint.manifest_of(runs.dir("run").checkpoint(4))["final"]
    # Once is enough.
    assert runs.resume("run", "--attempt", "3") == 0
    assert [e for e in runs.events("run", 3) if e["type"] == "checkpoint"] == []
