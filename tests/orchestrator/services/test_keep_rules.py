"""Applying a retention rule: what was looked at goes, and nothing else."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.keep_rule import KeepRule
from orchestrator.models import Checkpoint, RegistryChange
from orchestrator.selectors.retention_plan import plan_shape, retention_plan
from orchestrator.services import keep_rules
from orchestrator.services.keep_rules import PlanChanged, retention_apply
from orchestrator.services.registry import checkpoint_patch

LAST = KeepRule(keep_last=1, keep_best=0)


@pytest.fixture
def saved(ended):
    """A run that has ended with five checkpoints, its reward best at step 20."""
    run = ended(name="trunk")
    Checkpoint.objects.all().delete()
    rewards = {10: 0.1, 20: 0.9, 30: 0.2, 40: "NaN", 50: 0.3}
    return {
        step: Checkpoint.objects.create(
            run=run, attempt=1, step=step, path=f"checkpoints/step-{step}",
            sha256=f"{step:064d}", bytes=100 * step, metrics={"eval/loss": reward},
            final=step == 50,
        )
        for step, reward in rewards.items()
    }  # fmt: skip


def steps_left():
    return sorted(Checkpoint.objects.filter(deleted=None).values_list("step", flat=True))


def test_what_the_simulation_shows_is_what_goes(saved, ada):
    run = saved[10].run
    plan = retention_plan(KeepRule(keep_last=1, keep_best=1), run=run)
    shape = plan_shape(plan)
    assert (shape["deletes"], shape["frees"], shape["keeps"]) == (3, 100 * (20 + 30 + 40), 2)
    why = {item["step"]: item["why"] for item in shape["items"]}
    assert why[10] == ["the best by eval/loss (0.1)"] and why[50] == ["the newest"]
    assert [item["goes"] for item in shape["items"]] == [True] * 3 + [False] * 2
    assert steps_left() == [10, 20, 30, 40, 50], "looking deletes nothing"
    done = retention_apply(rule=plan.rule, user=ada, run_id=run.pk, expect=plan.decision.digest)
    assert [one.step for one in done.deleted] == [20, 30, 40] and done.bytes == 9000
    assert steps_left() == [10, 50]
    assert retention_plan(plan.rule, run=run).decision.going == []
    whys = set(RegistryChange.objects.values_list("what", "by", "why"))
    rule = "retention rule: of each run keep the newest 1, the best 1 by what decides for its run"
    assert whys == {("deleted", "ada", rule)}


def test_pinned_approved_needed_and_forked_ones_stay(saved, ada, launch):
    checkpoint_patch(checkpoint_id=saved[10].pk, user=ada, changes={"pinned": True})
    checkpoint_patch(checkpoint_id=saved[20].pk, user=ada, changes={"stage": "approved"})
    child = launch("child", model={"name": f"checkpoint:{saved[30].pk}"})
    run = saved[10].run
    why = {one.kept.step: one.why for one in retention_plan(LAST, run=run).decision.verdicts}
    assert why[10] == ("pinned",) and why[20] == ("approved",) and why[40] == ()
    assert why[30] == ("child needs it and has not ended", "child came from it")
    type(child).objects.filter(pk=child.pk).update(state="finished")
    why = {one.kept.step: one.why for one in retention_plan(LAST, run=run).decision.verdicts}
    assert why[30] == ("child came from it",)
    retention_apply(rule=LAST, user=ada, run_id=run.pk)
    assert steps_left() == [10, 20, 30, 50]


def test_a_run_that_has_not_ended_loses_nothing(saved, ada):
    run = saved[10].run
    type(run).objects.update(state="paused")
    assert retention_plan(LAST).decision.going == []
    assert retention_apply(rule=LAST, user=ada, run_id=run.pk).deleted == []
    assert len(steps_left()) == 5


def test_the_final_one_of_a_followed_run_is_needed(saved, launch):
    launch("follower", model={"name": f"run:{saved[10].run_id}"})
    best = KeepRule(keep_last=0, keep_best=1)
    why = {one.kept.step: one.why for one in retention_plan(best).decision.verdicts}
    assert why[50][0] == "follower needs it and has not ended"


def test_another_set_than_was_looked_at_is_refused(saved, ada):
    run = saved[10].run
    digest = retention_plan(LAST, run=run).decision.digest
    Checkpoint.objects.create(run=run, attempt=1, step=60, path="x", sha256="6" * 64, bytes=1)
    with pytest.raises(PlanChanged, match=r"it is 5 checkpoints now\. Look again, then apply"):
        retention_apply(rule=LAST, user=ada, run_id=run.pk, expect=digest)
    assert len(steps_left()) == 6


def test_a_pin_that_comes_between_looking_and_deleting_counts(saved, ada, monkeypatch):
    run, whole = saved[10].run, keep_rules.run_locked

    def pinned_meanwhile(run_id):
        Checkpoint.objects.filter(step=10).update(pinned=True)
        return whole(run_id)

    monkeypatch.setattr(keep_rules, "run_locked", pinned_meanwhile)
    done = retention_apply(rule=LAST, user=ada, run_id=run.pk)
    assert [one.step for one in done.deleted] == [20, 30, 40]


def test_all_runs_are_an_admins_and_one_run_its_owners(saved, ada, bob, alma):
    run = saved[10].run
    for user in (ada, bob):
        with pytest.raises(PermissionDenied, match="Only admins apply a rule to all runs"):
            retention_apply(rule=LAST, user=user)
    with pytest.raises(PermissionDenied):
        retention_apply(rule=LAST, user=alma, role="operator")
    with pytest.raises(PermissionDenied):
        retention_apply(rule=LAST, user=bob, run_id=run.pk)
    with pytest.raises(ValueError, match="There is no run"):
        retention_apply(rule=LAST, user=alma, run_id="x" * 12)
    assert len(steps_left()) == 5
    retention_apply(rule=LAST, user=alma)
    assert steps_left() == [50]
