"""Steering: live knobs as they are stored and told, and requests to save or evaluate at once."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.models import Event, Run
from orchestrator.selectors.changes import past_changes, steering
from orchestrator.selectors.wants import want_of
from orchestrator.services.live_knobs import run_request
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.runs import run_patch
from trainer.spec import SpecError

GRPO = {
    "objective": {"type": "grpo"},
    "rewards": [{"type": "exact-match"}, {"type": "length-window"}],
    "data": {
        "train": [{"source": "arithmetic"}],
        "eval": [{"source": "arithmetic", "split": "test", "limit": 8}],
    },
}


def change(run, user, **knobs):
    paths = {path.replace("__", "."): value for path, value in knobs.items()}
    return run_patch(run_id=run.pk, user=user, changes={"knobs": paths})


def applied(run, step, knobs, attempt=1, seq=1, **data):
    return Event.objects.create(
        run=run, attempt=attempt, source="trainer", seq=seq, time=run.created, type="alert",
        data={"level": "info", "code": "knobs", "data": {"step": step, "knobs": knobs, **data}},
    )  # fmt: skip


def test_rate_kl_temperature_and_a_reward_weight_travel_to_the_trainer(working, ada):
    run = working(**GRPO)
    knobs = {"optimizer.lr": 2e-4, "objective.beta": 0.1, "rollout.temperature": 0.7}
    knobs["rewards.1.weight"] = 0.5
    run = run_patch(run_id=run.pk, user=ada, changes={"knobs": knobs})
    assert want_of(run, 1)["knobs"] == knobs == run.knobs
    (event,) = Event.objects.filter(run=run, type="knobs")
    assert event.data["by"] == "ada"
    assert {"path": "optimizer.lr", "old": 1e-4, "new": 2e-4} in event.data["changes"]


def test_null_or_the_specs_own_value_takes_a_knob_back(working, ada):
    run = change(working(**GRPO), ada, optimizer__lr=2e-4, objective__beta=0.1)
    run = change(run, ada, optimizer__lr=None)
    assert run.knobs == {"objective.beta": 0.1}
    run = change(run, ada, objective__beta=0.0)
    assert run.knobs == {}
    before = Event.objects.count()
    assert change(run, ada, optimizer__lr=None).knobs == {} and Event.objects.count() == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("optimizer.lr", -1),
        ("optimizer.lr", "fast"),
        ("objective.beta", 11),
        ("rollout.temperature", 0),
        ("rewards.2.weight", 1),
        ("rewards.0.weight", "much"),
        ("seed", 3),
        ("model.name", "other"),
    ],
)
def test_a_bad_value_is_refused_with_the_fields_name_and_changes_nothing(working, ada, path, value):
    run = working(**GRPO)
    with pytest.raises(SpecError) as refusal:
        run_patch(run_id=run.pk, user=ada, changes={"knobs": {path: value}})
    assert [problem.path for problem in refusal.value.problems] == [path]
    run.refresh_from_db()
    assert run.knobs == {}


def test_a_run_that_has_ended_takes_no_changes(working, ada):
    run = working(**GRPO)
    attempt_end(run, 1, Ending("finished", "finished", "done"), who="t")
    with pytest.raises(ValueError, match="knobs: the run has ended"):
        change(run, ada, optimizer__lr=1e-5)


def test_requests_are_counted_and_travel_with_every_answer(working, ada, bob):
    run = working(**GRPO)
    run_request(run_id=run.pk, user=ada, what="save")
    run_request(run_id=run.pk, user=ada, what="save")
    run = run_request(run_id=run.pk, user=ada, what="evaluate")
    assert want_of(run, 1)["asks"] == {"save": 2, "evaluate": 1}
    with pytest.raises(PermissionDenied):
        run_request(run_id=run.pk, user=bob, what="save")
    with pytest.raises(ValueError, match="'explode' is unknown"):
        run_request(run_id=run.pk, user=ada, what="explode")


def test_a_request_at_a_wrong_moment_or_without_held_out_rows_says_why(working, launch, ada):
    with pytest.raises(ValueError, match="Only a run at work"):
        run_request(run_id=launch("other").pk, user=ada, what="save")
    Run.objects.all().delete()
    with pytest.raises(ValueError, match=r"data\.eval is empty"):
        run_request(run_id=working().pk, user=ada, what="evaluate")


def test_steering_shows_what_is_wanted_and_what_counts(working, ada):
    run = change(working(**GRPO), ada, optimizer__lr=2e-4)
    knob = {one["path"]: one for one in steering(run)["knobs"]}["optimizer.lr"]
    assert (knob["spec"], knob["wanted"], knob["counts"], knob["waits"]) == (1e-4, 2e-4, 1e-4, True)
    assert "learning rate" in knob["help"].lower()
    moved = [{"path": "optimizer.lr", "old": 1e-4, "new": 2e-4}]
    applied(run, 12, {"optimizer.lr": 2e-4}, changes=moved)
    found = steering(run)
    knob = {one["path"]: one for one in found["knobs"]}["optimizer.lr"]
    assert (knob["counts"], knob["waits"]) == (2e-4, False)
    assert found["changes"] == [{"attempt": 1, "step": 12, **moved[0]}]
    assert found["may_evaluate"] and found["open"]


def test_what_a_rollback_took_back_is_not_repeated(working):
    run = working(**GRPO)
    applied(run, 5, {"optimizer.lr": 1e-5})
    applied(run, 9, {"optimizer.lr": 1e-6}, seq=2)
    applied(run, 12, {"optimizer.lr": 1e-7}, attempt=2)
    assert [one["step"] for one in past_changes(run)] == [5, 9, 12]
    run.voids = [[1, 6]]
    assert [one["step"] for one in past_changes(run)] == [5, 12]
