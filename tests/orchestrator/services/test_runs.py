"""Runs: launch, stop, pause, resume, retry, change; and the release when the server goes down."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import connection

from orchestrator.models import Attempt, Checkpoint, Event, Node, Process, Run
from orchestrator.selectors.runs import run_shape, runs_list
from orchestrator.services.demo import demo_launch
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from orchestrator.services.release import runs_release_local
from orchestrator.services.runs import (
    run_create,
    run_patch,
    run_pause,
    run_resume,
    run_retry,
    run_stop,
)
from tests.orchestrator.conftest import SPEC
from trainer.control import Control
from trainer.rundir import RunDir
from trainer.spec import SpecError


def test_a_launched_run_is_queued_with_its_whole_spec(
    ada, messages, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        run = run_create(owner=ada, spec=SPEC, tags=["b", "a", "a"], recipe="r")
    assert (run.state, run.name, run.total_steps, run.tags) == ("queued", "tiny", 10, ["a", "b"])
    assert run.spec["optimizer"]["type"] == "adamw"
    assert messages == [("schedule", [], "control")]
    event = Event.objects.get(run=run)
    assert (event.source, event.data["by"]) == ("server", "ada")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"budget": {"max_steps": -1}}, "budget.max_steps"),
        ({"model": {"name": "run:aaaaaaaaaaaa"}}, "model.name"),
        ({"model": {"name": "checkpoint:aaaaaaaaaaaa"}}, "model.name"),
        ({"reference": {"name": "run:aaaaaaaaaaaa"}}, "reference.name"),
        ({"data": {"train": [{"source": "abcdefghijkl"}]}}, "data"),
    ],
)
def test_a_spec_that_cannot_run_is_refused_with_its_place(ada, change, path):
    with pytest.raises(SpecError) as refusal:
        run_create(owner=ada, spec={**SPEC, **change})
    assert [problem.path for problem in refusal.value.problems] == [path]
    assert not Run.objects.exists()


def test_a_waiting_run_stops_at_once(launch, ada):
    run = run_stop(run_id=launch().pk, user=ada, message="typo")
    assert (run.state, run.cause, run.reason) == ("stopped", "user", "Stopped by ada: typo")
    with pytest.raises(ValueError, match="ended already"):
        run_stop(run_id=run.pk, user=ada)


def test_a_working_run_stops_when_its_trainer_has(working, ada):
    run = run_stop(run_id=working().pk, user=ada)
    assert (run.state, run.desired, run.ended) == ("stopping", "stop", None)
    attempt_end(run, 1, Ending("stopped", "user", "stopped on request"), who="t")
    assert (run.state, run.reason) == ("stopped", "Stopped by ada.")


def test_a_paused_run_is_queued_again_by_resume(launch, ada, joined):
    run = run_pause(run_id=launch().pk, user=ada)
    assert run.state == "paused"
    joined()
    assert schedule() == 0
    run = run_resume(run_id=run.pk, user=ada)
    assert run.state == "queued"
    assert schedule() == 1
    with pytest.raises(ValueError, match="Only a paused run"):
        run_resume(run_id=run.pk, user=ada)


def test_a_failed_run_is_retried_from_where_it_was(working, ada):
    run = working()
    attempt_end(run, 1, Ending("failed", "oom", "too large"), who="t")
    run = run_retry(run_id=run.pk, user=ada)
    assert (run.state, run.cause, run.ended, run.reason) == ("queued", "", None, "Retried by ada.")
    schedule()
    run.refresh_from_db()
    assert run.attempt == 2
    with pytest.raises(ValueError, match="Only a run that failed"):
        run_retry(run_id=run.pk, user=ada)


def test_only_the_owner_or_an_admin_changes_a_run(launch, ada, bob, alma):
    run = launch()
    for verb in (run_stop, run_pause, run_resume, run_retry):
        with pytest.raises(PermissionDenied):
            verb(run_id=run.pk, user=bob)
    with pytest.raises(PermissionDenied):
        run_patch(run_id=run.pk, user=bob, changes={"name": "mine"})
    assert run_stop(run_id=run.pk, user=alma).reason == "Stopped by alma."


def test_live_knobs_change_and_others_do_not(working, ada):
    run = working()
    run = run_patch(run_id=run.pk, user=ada, changes={"knobs": {"budget.max_steps": 20}})
    assert run.knobs == {"budget.max_steps": 20}
    for knobs, path in (({"seed": 3}, "seed"), ({"no.such": 1}, "no.such")):
        with pytest.raises(SpecError) as refusal:
            run_patch(run_id=run.pk, user=ada, changes={"knobs": knobs})
        assert refusal.value.problems[0].path == path
    with pytest.raises(SpecError):
        run_patch(run_id=run.pk, user=ada, changes={"knobs": {"budget.max_steps": -4}})
    with pytest.raises(ValueError, match="owner cannot be changed"):
        run_patch(run_id=run.pk, user=ada, changes={"owner": 1})
    run = run_patch(
        run_id=run.pk, user=ada, changes={"name": "new", "tags": ["x", "x"], "priority": 3}
    )
    assert (run.name, run.tags, run.priority) == ("new", ["x"], 3)


@pytest.mark.django_db(transaction=True)
def test_of_people_who_pause_and_stop_at_once_the_facts_stay_together(working, ada):
    run = working()
    gate, verbs = threading.Barrier(6), [run_stop, run_pause, run_resume] * 2

    def race(verb) -> None:
        gate.wait()
        try:
            verb(run_id=run.pk, user=ada)
        except ValueError:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=(verb,)) for verb in verbs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.refresh_from_db()
    expected = {"run": "starting", "pause": "pausing", "stop": "stopping"}
    assert run.state == expected[run.desired]


def test_lists_filter_order_and_page(launch, ada, bob):
    for number in range(5):
        launch(f"run-{number}", owner=bob if number == 4 else ada)
    run_stop(run_id=Run.objects.get(name="run-0").pk, user=ada)
    assert [run.name for run in runs_list(state="stopped")[0]] == ["run-0"]
    assert [run.name for run in runs_list(q="bob")[0]] == ["run-4"]
    found, count = runs_list(order="name", page=2, per_page=2)
    assert ([run.name for run in found], count) == (["run-2", "run-3"], 5)
    with pytest.raises(ValueError, match="'nonsense' is unknown"):
        runs_list(order="nonsense")
    with pytest.raises(ValueError, match="'dead' is unknown"):
        runs_list(state="dead")


def test_the_shape_of_a_run_holds_what_people_see(working):
    run = working()
    run.latest = {"loss": 0.5, "time/step": 2.0}
    run.step = 4
    Checkpoint.objects.create(run=run, attempt=1, step=4, path="p", sha256="s")
    Run.objects.filter(pk=run.pk).update(process=Process.ALIVE)
    run.process = Process.ALIVE
    shape = run_shape(run)
    assert (shape["state"], shape["node"], shape["owner"]) == ("running", "n1", "ada")
    assert shape["primary"] == {"key": "loss", "value": 0.5}
    assert (shape["eta_seconds"], shape["checkpoints"]) == (12.0, 1)


def test_the_demo_is_two_runs_of_which_one_waits_for_the_other(ada):
    first, second = demo_launch(owner=ada)
    assert second.waits_for == first
    assert second.spec["model"]["name"] == f"run:{first.pk}"
    assert second.spec["model"]["warm_start"] == ""


# --- when `up` goes down ----------------------------------------------------------------------------

OBEDIENT = """
import json, sys, time
from pathlib import Path
from trainer.journal import Journal
folder = Path(sys.argv[1])
journal = Journal(folder / "journal.jsonl")
journal.append("status", state="running")
while not (folder / "control.json").exists():
    time.sleep(0.02)
order = json.loads((folder / "control.json").read_text())
journal.append("status", state="stopped", cause=order["cause"], message=order["message"])
sys.exit(3)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def begin(run: Run, code: str) -> subprocess.Popen[bytes]:
    folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk
    attempt = RunDir(folder).attempt(run.attempt)
    attempt.path.mkdir(parents=True)
    trainer = [sys.executable, "-c", code, str(attempt.path)]
    command = [sys.executable, "-m", "trainer.host", "--dir", str(folder), "--attempt", "1", "--"]
    process = subprocess.Popen([*command, *trainer])
    deadline = time.monotonic() + 10
    while "trainer" not in (attempt.processes.read_text() if attempt.processes.exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    return process


def test_release_lets_trainers_save_and_queues_their_runs(working, launch):
    run = working()
    process = begin(run, OBEDIENT)
    assert runs_release_local(reason="server stopped", deadline=10) == 1
    assert process.wait(10) == 3
    run.refresh_from_db()
    assert (run.state, run.cause, run.reason) == ("queued", "server-stopped", "server stopped")
    assert run.restarts == 0
    waiting = launch("waiting")
    assert schedule() == 0  # the node is closed until it joins again
    assert Node.objects.get().closed is not None and waiting.state == "queued"


def test_release_ends_by_force_what_does_not_listen(working):
    run = working()
    process = begin(run, DEAF)
    began = time.monotonic()
    assert runs_release_local(deadline=0.5) == 1
    process.wait(10)
    assert time.monotonic() - began < 12
    run.refresh_from_db()
    assert run.state == "queued"
    control = RunDir(settings.ANNEAL_DATA_DIR / "runs" / run.pk).attempt(1).control
    assert '"server-stopped"' in control.read_text() and Control().want == "run"


def test_what_arrives_after_the_release_changes_only_its_attempt(working):
    run = working()
    assert runs_release_local(deadline=0.1) == 1
    run.refresh_from_db()
    attempt_end(run, 1, Ending("stopped", "server-stopped", "late", exit_code=3), who="t")
    run.refresh_from_db()
    assert (run.state, run.reason) == ("queued", "server stopped")
    assert Attempt.objects.get().exit_code == 3
