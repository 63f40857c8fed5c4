"""Outcomes: what journals say becomes facts, once, and only while it still applies."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from orchestrator.models import (
    Attempt,
    Checkpoint,
    Event,
    Process,
    Run,
    ShipReport,
    State,
    shown_state,
)
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import events_apply
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_pause, run_resume, run_stop
from trainer.spec import spec_hash


def say(run: Run, *events: dict, attempt: int = 1, source: str = "trainer") -> Run:
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        numbered = [
            {"seq": seq, "time": time.time(), **event} for seq, event in enumerate(events, start=1)
        ]
        events_apply(run=locked, attempt=attempt, source=source, events=numbered)
    run.refresh_from_db()
    return run


def status(state: str, cause: str = "", message: str = "", **more) -> dict:
    return {"type": "status", "state": state, "cause": cause, "message": message, **more}


def saved(step: int, **more) -> dict:
    return {"type": "checkpoint", "step": step, "path": "x", "bytes": 5, "sha256": "c" * 64, **more}


def test_the_trainers_words_become_phase_step_and_state(working):
    run = say(working(), status("starting", phase="load", step=0, expect_next_in=300))
    assert (run.state, run.phase, run.expect_next_in) == ("starting", "load", 300)
    assert run.started is not None
    run = say(run, status("running", phase="train", step=3, total_steps=10, expect_next_in=60))
    assert (run.state, run.phase, run.step, run.total_steps) == ("running", "train", 3, 10)
    run = say(run, {"type": "heartbeat", "phase": "eval", "step": 4, "expect_next_in": 90})
    assert (run.phase, run.step, run.expect_next_in, run.reason) == ("eval", 4, 90, "")


def test_a_trainer_that_loads_does_not_set_the_figures_back(working):
    run = say(working(), status("running", phase="train", step=7, total_steps=10))
    run = say(run, status("starting", phase="load", step=0, total_steps=0))
    assert (run.step, run.total_steps, run.phase) == (7, 10, "load")
    run = say(run, status("running", phase="train", step=5, total_steps=10))
    assert run.step == 5


def test_the_last_word_says_how_far_the_run_came(working):
    run = say(working(), status("running", step=3, total_steps=10))
    run = say(run, status("finished", "finished", step=10, total_steps=10, phase="done"))
    assert (run.state, run.step, run.phase) == ("finished", 10, "done")


def test_contact_counts_by_the_servers_clock(working):
    run = working()
    Run.objects.update(last_contact=timezone.now() - timedelta(hours=1))
    run = say(run, {"type": "heartbeat", "time": 12.0})
    assert timezone.now() - run.last_contact < timedelta(seconds=5)
    assert Attempt.objects.get().lease_expires > timezone.now()


@pytest.mark.parametrize(
    ("word", "state", "cause"),
    [
        (status("finished", "finished"), "finished", "finished"),
        (status("finished", "budget"), "finished", "budget"),
        (status("failed", "oom"), "failed", "oom"),
        (status("failed", "nan"), "failed", "nan"),
        (status("failed", "crash"), "failed", "crash"),
        (status("failed", "bad-input"), "failed", "bad-input"),
        (status("failed", "disk"), "failed", "disk"),
        (status("failed", "killed"), "queued", "killed"),
        (status("stopped", "policy"), "stopped", "policy"),
        (status("stopped", "server-stopped"), "queued", "server-stopped"),
        (status("stopped", "preempted"), "queued", "preempted"),
        (status("stopped", "user", "stopped by SIGTERM"), "queued", "preempted"),
    ],
)
def test_how_an_attempt_ends_gives_the_state(working, word, state, cause):
    run = say(working(), status("running"), {**word, "message": word["message"] or "because"})
    assert (run.state, run.cause) == (state, cause)
    assert word["message"] in run.reason and run.reason
    assert (run.ended is not None) == (state in ("finished", "failed", "stopped"))


def test_only_a_killed_trainer_costs_a_restart(working):
    run = say(working(max_restarts=2), status("failed", "killed", "SIGKILL."))
    assert (run.state, run.restarts) == ("queued", 1)
    assert run.reason == "SIGKILL. Continues from its newest checkpoint (restart 1 of 2)."
    schedule()
    run_claim(node=run.node, run_id=run.pk, attempt=2)
    run = say(run, status("stopped", "server-stopped"), attempt=2)
    assert (run.state, run.restarts) == ("queued", 1)


def test_a_trainer_that_is_killed_without_restarts_left_has_failed(working):
    run = say(working(max_restarts=0), status("failed", "killed", "SIGKILL."))
    assert (run.state, run.cause, run.reason) == ("failed", "killed", "SIGKILL.")


def test_a_killed_trainer_that_was_to_stop_or_pause_has_stopped_or_paused(working, ada):
    run = working()
    run_stop(run_id=run.pk, user=ada)
    run = say(run, status("failed", "killed", "SIGKILL."))
    assert (run.state, run.cause) == ("stopped", "user")
    assert run.reason == "Stopped by ada. SIGKILL."
    other = working(name="other")
    run_pause(run_id=other.pk, user=ada)
    assert say(other, status("failed", "killed", "SIGKILL.")).state == "paused"


def test_stop_and_pause_say_who_asked(working, ada):
    run = working()
    run = say(run, status("running"))
    run_pause(run_id=run.pk, user=ada, message="lunch")
    run.refresh_from_db()
    assert (run.state, run.reason) == ("pausing", "Paused by ada: lunch")
    run = say(run, status("paused", "user", "lunch"))
    assert (run.state, run.cause, run.reason) == ("paused", "paused", "Paused by ada: lunch")


def test_a_run_that_was_resumed_while_it_paused_goes_on(working, ada):
    run = working()
    run_pause(run_id=run.pk, user=ada)
    run_resume(run_id=run.pk, user=ada)
    run = say(run, status("paused", "user"))
    assert (run.state, run.process, run.restarts) == ("queued", Process.NONE, 0)


def test_hosts_word_counts_where_the_trainer_said_none_and_adds_what_it_knows(working):
    run = say(working(), status("finished", "finished", "all done"))
    late = status("failed", "crash", "late", exit_code=0, pid=7, log=["bye"])
    run = say(run, late, source="host")
    assert run.state == "finished"
    attempt = Attempt.objects.get()
    assert (attempt.cause, attempt.exit_code, attempt.host["log"]) == ("finished", 0, ["bye"])
    other = say(working(name="other"), status("failed", "oom", "dead", exit_code=-9), source="host")
    assert (other.state, other.cause) == ("failed", "oom")


def test_the_last_lines_count_that_hosts_word_overtook(working):
    run = say(working(), status("running", phase="train", step=114, total_steps=120))
    run = say(run, status("finished", "finished"), source="host")
    assert (run.state, run.step) == ("finished", 114)
    run = say(run, status("finished", "finished", phase="done", step=120, total_steps=120))
    assert (run.state, run.step) == ("finished", 120)


def test_the_same_events_twice_change_nothing(working):
    run = say(
        working(), status("running", step=2), saved(2, final=True), status("finished", "finished")
    )
    before = Run.objects.values().get()
    say(run, status("running", step=1), status("failed", "crash"))
    after = Run.objects.values().get()
    assert {**after, "last_contact": 0} == {**before, "last_contact": 0}
    assert Checkpoint.objects.count() == 1


def test_checkpoints_are_noted_and_removed_ones_marked(working):
    run = say(working(), saved(10), saved(20, metrics={"eval/loss": 0.5}, removed=[10]))
    kept = Checkpoint.objects.get(run=run, deleted=None)
    assert (kept.step, kept.path, kept.metrics) == (20, "checkpoints/step-20", {"eval/loss": 0.5})
    assert Checkpoint.objects.get(run=run, step=10).deleted is not None


def test_a_fenced_attempt_publishes_nothing_and_moves_nothing(working):
    run = say(working(), status("running"), saved(10))
    run = say(run, status("failed", "killed", "gone"))
    schedule()
    run_claim(node=run.node, run_id=run.pk, attempt=2)
    before = time.time() - 60
    run = say(
        run,
        {**saved(20), "time": before},  # saved before the second attempt began: only late
        saved(30),
        status("running", step=30),
        status("finished", "finished"),
        attempt=1,
    )
    assert (run.state, run.step, run.attempt) == ("starting", 0, 2)
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [10, 20]
    assert Event.objects.filter(attempt=1, type="checkpoint").count() == 3


@pytest.mark.parametrize("ahead", [7200.0, -7200.0])
def test_a_clock_that_is_off_neither_fences_what_is_late_nor_lets_in_what_is_fenced(working, ahead):
    run = say(working(), status("running"), saved(10))
    run = say(run, status("failed", "killed", "gone"))
    schedule()
    run_claim(node=run.node, run_id=run.pk, attempt=2)
    now = timezone.now()
    ShipReport.objects.create(
        run=run, attempt=1, received=now, clock_offset=ahead, clock_within=0.01
    )
    before, after = (time.time() + apart + ahead for apart in (-60, 60))
    say(run, {**saved(20), "time": before}, {**saved(30), "time": after}, attempt=1)
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [10, 20]


def test_a_clock_that_was_set_back_lets_in_nothing_that_was_fenced(working):
    """It was cut off while its clock was set, so nobody has measured by how much."""
    began = time.time() - 60
    run = say(working(), {**status("running"), "time": began}, {**saved(10), "time": began + 1})
    run = say(run, status("failed", "killed", "gone"), source="host")
    schedule()
    run_claim(node=run.node, run_id=run.pk, attempt=2)
    say(
        run,
        {"seq": 3, **saved(20), "time": began + 0.5},  # put right by half a second, and only late
        {"seq": 4, **saved(30), "time": began - 3600},
        {"seq": 5, **saved(40), "time": began - 3500},
        attempt=1,
    )
    assert sorted(Checkpoint.objects.values_list("step", flat=True)) == [10, 20]


def test_the_effective_spec_comes_back_with_its_hash(working):
    run = working()
    spec = {**run.spec, "model": {**run.spec["model"], "dtype": "float32"}}
    good = {"type": "status", "state": "running", "data": {"sha256": spec_hash(spec), "spec": spec}}
    run = say(run, good, source="host")
    assert (run.effective_spec, run.spec_hash) == (spec, spec_hash(spec))
    assert run.state == "starting"
    bad = {**good, "data": {"sha256": "0" * 64, "spec": {}}}
    assert say(run, bad, source="host").effective_spec == spec


def test_every_change_of_state_is_an_event_with_who_and_why(working, ada):
    run = say(working(), status("running"))
    run_stop(run_id=run.pk, user=ada, message="enough")
    say(run, status("stopped", "user"))
    told = [
        (event.data["state"], event.data["by"])
        for event in Event.objects.filter(run=run, source="server", type="status").order_by("id")
    ]
    assert told[0] == ("queued", "ada")
    assert ("running", "trainer") in told and ("stopping", "ada") in told
    assert told[-1] == ("stopped", "trainer on n1")


@pytest.mark.parametrize("desired", ["run", "pause", "stop"])
@pytest.mark.parametrize("process", list(Process.values))
@pytest.mark.parametrize("in_contact", [True, False])
@pytest.mark.parametrize("cause", ["", "user", "paused", "oom", "unheard-of"])
def test_every_set_of_facts_has_a_state(desired, process, in_contact, cause):
    state = shown_state(desired=desired, process=process, cause=cause, in_contact=in_contact)
    assert state in State.values
    if process in ("claimed", "alive") and not in_contact:
        assert state == "lost"
    if process == "exited" and cause == "unheard-of":
        assert state == "failed"
