"""The life cycle by REST: steer, archive, delete, fork by step, and the curves before a fork."""

from __future__ import annotations

import json

import pytest

from orchestrator.models import Checkpoint, Event, Process, Run
from orchestrator.services.forks import run_fork
from orchestrator.services.removals import removals_work
from tests.orchestrator.conftest import SPEC, attempt_add
from tests.orchestrator.telemetry import metrics, push


@pytest.fixture
def ask(client, ada, bearer):
    """A request of ada's: `ask("POST", "/runs/ID/stop", {...})`."""
    headers = bearer(ada)

    def send(method, path, body=None):
        text = "" if body is None else json.dumps(body)
        answer = client.generic(method, f"/api{path}", text, "application/json", headers=headers)
        return answer.status_code, json.loads(answer.content)

    return send


@pytest.fixture
def parent(run, ada):
    """A run of ten steps that has ended, with a checkpoint of step 6."""
    push(run, [metrics(seq, loss=1.0 / seq, num_tokens=10.0 * seq) for seq in range(1, 11)])
    Checkpoint.objects.create(run=run, attempt=1, step=6, path="checkpoints/step-6", sha256="0")
    Run.objects.filter(pk=run.pk).update(process=Process.EXITED, cause="finished", state="finished")
    run.refresh_from_db()
    return run


def test_knobs_are_changed_and_taken_back(ask, run):
    status, shape = ask("PATCH", f"/runs/{run.pk}", {"knobs": {"optimizer.lr": 2e-5}})
    assert (status, shape["knobs"]) == (200, {"optimizer.lr": 2e-5})
    _, found = ask("GET", f"/runs/{run.pk}/steering")
    assert all(one["of"] == "" for one in found["knobs"]), "nothing of it is numbered"
    knob = next(one for one in found["knobs"] if one["path"] == "optimizer.lr")
    assert (knob["spec"], knob["wanted"], knob["waits"], found["open"]) == (1e-4, 2e-5, True, True)
    _, shape = ask("PATCH", f"/runs/{run.pk}", {"knobs": {"optimizer.lr": None}})
    assert shape["knobs"] == {}


def test_a_bad_knob_is_a_problem_with_its_path(ask, run):
    status, problem = ask("PATCH", f"/runs/{run.pk}", {"knobs": {"optimizer.lr": -1, "seed": 2}})
    assert status == 422
    assert [one["path"] for one in problem["errors"]] == ["spec.seed"]
    status, problem = ask("PATCH", f"/runs/{run.pk}", {"knobs": {"optimizer.lr": -1}})
    assert (status, problem["errors"][0]["path"]) == (422, "spec.optimizer.lr")


def test_a_policy_is_launched_with_and_changed(ask, run):
    rule = {"pattern": "NCCL", "action": "exclude-node"}
    body = {"spec": SPEC, "policy": {"on_nan": "rollback", "log_rules": [rule]}, "max_restarts": 7}
    status, shape = ask("POST", "/runs", body)
    assert (status, shape["max_restarts"], shape["policy"]["log_rules"]) == (201, 7, [rule])
    status, shape = ask("PATCH", f"/runs/{shape['id']}", {"policy": {}, "max_restarts": 1})
    assert (shape["policy"]["on_nan"], shape["max_restarts"]) == ("fail", 1)
    bad = {**rule, "pattern": "("}
    status, problem = ask("POST", "/runs", {**body, "policy": {"log_rules": [bad]}})
    assert (status, problem["errors"][0]["path"]) == (422, "policy.log_rules.0.pattern")
    status, problem = ask("POST", "/runs", {**body, "policy": {"on_oom": "pray"}})
    assert (status, problem["errors"][0]["path"]) == (422, "policy.on_oom")


def test_save_now_and_evaluate_now_are_counted_and_refused_at_a_wrong_moment(ask, run, parent):
    status, problem = ask("POST", f"/runs/{parent.pk}/save")
    assert status == 409 and "Only a run at work" in problem["detail"]
    Run.objects.update(process=Process.ALIVE, cause="", state="running")
    assert ask("POST", f"/runs/{run.pk}/save")[0] == 200
    status, problem = ask("POST", f"/runs/{run.pk}/evaluate")
    assert status == 409 and "data.eval is empty" in problem["detail"]
    run.refresh_from_db()
    assert run.asks == {"save": 1}


def test_archived_runs_are_listed_when_asked_for(ask, parent):
    status, shape = ask("POST", f"/runs/{parent.pk}/archive")
    assert status == 200 and shape["archived"]
    assert ask("GET", "/runs")[1]["count"] == 0
    assert ask("GET", "/runs?archived=only")[1]["count"] == 1
    assert ask("GET", "/runs?archived=nonsense")[0] == 422
    assert ask("POST", f"/runs/{parent.pk}/unarchive")[1]["archived"] is None


def test_a_run_that_lives_is_not_deleted_and_an_ended_one_says_what_it_freed(ask, run):
    status, problem = ask("DELETE", f"/runs/{run.pk}")
    assert status == 409 and "Stop it first" in problem["detail"]
    Run.objects.update(process=Process.EXITED, cause="finished", state="finished")
    run_id = run.pk
    status, found = ask("DELETE", f"/runs/{run_id}")
    assert (status, found["items"][0]["done"]) == (202, None)
    assert ask("GET", f"/runs/{run_id}")[1]["reason"].startswith("Being deleted, as ada asked")
    assert ask("GET", "/runs")[1]["count"] == 0
    assert ask("DELETE", f"/runs/{run_id}") == (202, found)
    status, problem = ask("POST", f"/runs/{run_id}/retry")
    assert (status, problem["detail"]) == (409, "The run is being deleted.")
    assert ask("PATCH", f"/runs/{run_id}", {"notes": "x"})[0] == 422
    assert ask("POST", f"/runs/{run_id}/clone", {})[0] == 422
    removals_work()
    assert ask("GET", f"/runs/{run_id}")[0] == 404
    told = ask("GET", "/removals")[1]["items"][-1]
    assert (told["run"], told["rows"]["run"]) == (run_id, 1) and told["done"]


def test_somebody_elses_run_is_neither_steered_nor_deleted(client, bob, bearer, parent):
    headers = bearer(bob)
    for verb in ("save", "evaluate", "archive", "unarchive"):
        assert client.post(f"/api/runs/{parent.pk}/{verb}", headers=headers).status_code == 403
    assert client.delete(f"/api/runs/{parent.pk}", headers=headers).status_code == 403


def test_a_fork_by_step_continues_the_curves_of_its_parent(ask, parent):
    status, problem = ask("POST", f"/runs/{parent.pk}/fork", {"step": 7})
    assert status == 422 and "has no checkpoint of step 7; it has 6" in problem["detail"]
    body = {"step": 6, "changes": {"optimizer.lr": 3e-5}}
    status, child = ask("POST", f"/runs/{parent.pk}/fork", body)
    assert (status, child["parent"], child["parent_step"]) == (201, parent.pk, 6)
    _, spec = ask("GET", f"/runs/{child['id']}/spec")
    assert spec["spec"]["optimizer"]["lr"] == 3e-5
    _, segments = ask("GET", f"/runs/{child['id']}/lineage?keys=loss")
    (segment,) = segments
    assert (segment["run"], segment["step"], segment["offset"]) == (parent.pk, 6, -6)
    assert segment["curves"]["loss"]["x"] == [-5, -4, -3, -2, -1, 0]
    assert segment["curves"]["loss"]["y"][-1] == pytest.approx(1 / 6)
    _, (segment,) = ask("GET", f"/runs/{child['id']}/lineage?keys=loss&x=tokens")
    assert segment["curves"]["loss"]["x"] == [-50, -40, -30, -20, -10, 0]
    _, seams = ask("GET", f"/runs/{child['id']}/seams")
    assert [(one["step"], one["kind"], one["text"]) for one in seams] == [
        (0, "fork", "fork of tiny at step 6")
    ]
    assert ask("GET", f"/runs/{parent.pk}/lineage?keys=loss")[1] == []


def test_a_grandparent_lies_further_back(ask, parent, ada):
    child = run_fork(run_id=parent.pk, step=6, user=ada, changes={})
    Run.objects.filter(pk=child.pk).update(attempt=1)
    attempt_add(child, 1)
    push(child, [metrics(seq, loss=2.0) for seq in range(1, 5)])
    Checkpoint.objects.create(run=child, attempt=1, step=4, path="checkpoints/step-4", sha256="1")
    grandchild = run_fork(run_id=child.pk, step=4, user=ada, changes={})
    _, segments = ask("GET", f"/runs/{grandchild.pk}/lineage?keys=loss")
    assert [(one["run"], one["offset"]) for one in segments] == [(child.pk, -4), (parent.pk, -10)]
    assert segments[0]["curves"]["loss"]["x"] == [-3, -2, -1, 0]
    assert segments[1]["curves"]["loss"]["x"] == [-9, -8, -7, -6, -5, -4]


def test_a_fork_starts_with_the_live_changes_of_its_step_and_the_checkpoints_own_shape(ask, parent):
    def applied(step, knobs, seq):
        Event.objects.create(
            run=parent, attempt=1, source="trainer", seq=seq, time=parent.created, type="alert",
            data={"level": "info", "code": "knobs", "data": {"step": step, "knobs": knobs}},
        )  # fmt: skip

    applied(3, {"optimizer.lr": 5e-5}, 1)
    applied(9, {"optimizer.lr": 1e-6}, 2)
    spec = parent.spec | {"model": {"name": "starter", "options": {"layers": 1}}}
    Run.objects.update(spec=spec)
    status, child = ask("POST", f"/runs/{parent.pk}/fork", {"step": 6})
    assert status == 201
    _, found = ask("GET", f"/runs/{child['id']}/spec")
    assert found["spec"]["optimizer"]["lr"] == 5e-5
    assert found["spec"]["model"]["options"] == {}
    assert ask("POST", f"/runs/{parent.pk}/fork", {})[0] == 422
    assert ask("POST", f"/runs/{parent.pk}/fork", {"step": 6, "checkpoint": "a"})[0] == 422
