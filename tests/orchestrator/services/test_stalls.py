"""A stall as host tells of it: the run's reason, REST, the page, and what its policy makes of its end."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.db import transaction
from django.test import Client
from django.utils import timezone

from orchestrator.models import Process, Run, ShipReport, Stream
from orchestrator.selectors.runs import run_shape
from orchestrator.selectors.stalls import stall_shape, stall_standing
from orchestrator.selectors.wants import want_of
from orchestrator.services.lost import sweep
from orchestrator.services.outcomes import events_apply
from orchestrator.services.runs import run_patch, run_pause, run_stop

EVIL = "<script>alert(1)</script>"
SEQ = iter(range(1, 10_000))


def say(run: Run, *events: dict, source: str = "host", attempt: int = 1) -> Run:
    with transaction.atomic():
        locked = Run.objects.select_for_update(no_key=True).get(pk=run.pk)
        told = [{"seq": next(SEQ), "time": time.time(), **event} for event in events]
        events_apply(run=locked, attempt=attempt, source=source, events=told)
    run.refresh_from_db()
    return run


def stall(**more) -> dict:
    data = {"phase": "rollout", "silent_s": 34.2, "expected_s": 19.0, "stacks": EVIL, "policy": "tell",
            "evidence": f"It is stopped {EVIL}.", "because": "3 times the longest", **more}  # fmt: skip
    message = "Stalled in rollout: it is stopped."
    return {"type": "alert", "level": "warning", "code": "stall", "message": message, "data": data}


OVER = {"type": "alert", "level": "info", "code": "stall-over", "message": "It speaks again."}
ENDED = {
    "type": "status",
    "state": "failed",
    "cause": "stall",
    "message": "Stalled in rollout: it said nothing for 34 s and was ended by force.",
}


@pytest.fixture
def run(working):
    found = working()
    Run.objects.filter(pk=found.pk).update(process=Process.ALIVE, state="running")
    found.refresh_from_db()
    return found


def with_policy(run: Run, ada, on_stall: str) -> Run:
    return run_patch(run_id=run.pk, user=ada, changes={"policy": {"on_stall": on_stall}})


def test_a_stall_is_the_reason_and_leaves_the_state(run):
    say(run, stall())
    assert run.state == "running"
    assert run.reason == "Stalled in rollout: silent for 34 s, expected 19 s at most."
    shape = run_shape(run)["stall"]
    assert (shape["phase"], shape["silent_s"], shape["policy"]) == ("rollout", 34.2, "tell")
    assert "stacks" not in shape


def test_when_it_speaks_again_nothing_of_it_is_left(run):
    say(say(run, stall()), OVER)
    assert (run.reason, stall_standing(run), run_shape(run)["stall"]) == ("", None, None)


def test_a_word_of_the_trainer_clears_the_reason_too(run):
    say(run, stall())
    say(
        run,
        {"type": "heartbeat", "phase": "train", "step": 3, "expect_next_in": 9},
        source="trainer",
    )
    assert run.reason == ""


def test_a_stall_of_an_older_attempt_is_none(run):
    say(run, stall())
    Run.objects.filter(pk=run.pk).update(attempt=2)
    run.refresh_from_db()
    assert stall_standing(run) is None
    say(run, stall(phase="update"), attempt=1)
    assert "update" not in run.reason


def test_it_does_not_hide_who_asked_for_an_end(run, ada):
    run_stop(run_id=run.pk, user=ada, message="enough")
    say(run, stall())
    assert run.reason == "Stopped by ada: enough"
    assert stall_shape(run)["outlook"].startswith("It was asked to end")


@pytest.mark.parametrize(
    "data", [None, [], "x", {}, {"phase": 3, "silent_s": "long", "expected_s": True}]
)
def test_what_a_strange_host_says_harms_nobody(run, data):
    say(run, {**stall(), "data": data})
    assert run.reason.startswith("Stalled in ") and "an unknown time" in run.reason
    assert stall_shape(run) is not None


def test_the_sweep_leaves_the_sentence_of_host_which_knows_more(run):
    Run.objects.filter(pk=run.pk).update(expect_next_in=10)
    heard = timezone.now() - timedelta(seconds=100)
    Stream.objects.create(run=run, attempt=1, source="trainer", received=heard)
    sweep()
    run.refresh_from_db()
    assert run.reason.startswith("The trainer has said nothing since")
    say(run, stall())
    sweep()
    run.refresh_from_db()
    assert run.reason.startswith("Stalled in rollout")


def test_older_words_that_arrive_behind_the_alert_hide_it_only_until_the_sweep(run):
    say(run, stall())
    say(
        run,
        {"type": "heartbeat", "phase": "train", "step": 3, "expect_next_in": 9},
        source="trainer",
    )
    assert run.reason == ""
    heard = timezone.now() - timedelta(seconds=100)
    Stream.objects.create(run=run, attempt=1, source="trainer", received=heard)
    sweep()
    run.refresh_from_db()
    assert run.reason.startswith("Stalled in rollout") and run_shape(run)["stall"] is not None


def test_a_silent_ship_makes_no_stall(run):
    Run.objects.filter(pk=run.pk).update(expect_next_in=10)
    heard = timezone.now() - timedelta(seconds=100)
    Stream.objects.create(run=run, attempt=1, source="trainer", received=heard)
    ShipReport.objects.create(run=run, attempt=1, received=heard)
    sweep()
    run.refresh_from_db()
    assert "Stalled" not in run.reason and "ship, which carries its words, is silent" in run.reason
    assert run_shape(run)["stall"] is None


# --- the policy -------------------------------------------------------------------------------------


def test_the_policy_travels_with_every_order(run, ada):
    assert want_of(run, 1)["on_stall"] == "tell"
    run = with_policy(run, ada, "restart")
    assert want_of(run, 1)["on_stall"] == "restart"
    Run.objects.filter(pk=run.pk).update(attempt=2)
    run.refresh_from_db()
    assert want_of(run, 1)["on_stall"] == "tell"


def test_restart_goes_on_from_the_newest_checkpoint_and_counts(run, ada):
    run = say(with_policy(run, ada, "restart"), stall(), ENDED)
    assert (run.state, run.cause, run.restarts) == ("queued", "stall", 1)
    assert run.reason.endswith("Continues from its newest checkpoint (restart 1 of 3).")


def test_without_restarts_left_it_fails(run, ada):
    Run.objects.filter(pk=run.pk).update(max_restarts=0)
    run.refresh_from_db()
    run = say(with_policy(run, ada, "restart"), ENDED)
    assert (run.state, run.cause) == ("failed", "stall")


@pytest.mark.parametrize("policy", ["stop", "tell"])
def test_else_it_is_the_end(run, ada, policy):
    run = say(with_policy(run, ada, policy), ENDED)
    assert (run.state, run.cause, run.restarts) == ("failed", "stall", 0)


def test_only_the_word_of_host_ends_it_under_a_policy(run, ada):
    run = say(with_policy(run, ada, "restart"), ENDED, source="trainer")
    assert (run.state, run.restarts) == ("running", 0)
    assert say(run, ENDED).state == "queued"


@pytest.mark.parametrize(("ask", "state"), [(run_stop, "stopped"), (run_pause, "paused")])
def test_an_end_that_was_asked_for_meanwhile_is_met(run, ada, ask, state):
    with_policy(run, ada, "restart")
    ask(run_id=run.pk, user=ada)
    run.refresh_from_db()
    assert say(run, ENDED).state == state


# --- the page ---------------------------------------------------------------------------------------


def test_the_page_tells_it_and_escapes_what_came_from_outside(run, ada):
    say(run, stall())
    client = Client()
    client.force_login(ada)
    for url in (f"/runs/{run.pk}/", f"/runs/{run.pk}/stall-part/", f"/runs/{run.pk}/events/"):
        text = client.get(url).content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and EVIL not in text
    part = client.get(f"/runs/{run.pk}/stall-part/").content.decode()
    assert "Stalled in rollout" in part and "Change what is done" in part
    assert "<details" in part and "34 s" in part and "3 times the longest" in part


def test_somebody_who_may_not_change_it_is_offered_nothing(run, django_user_model):
    say(run, stall())
    eve = django_user_model.objects.create_user("eve", password="x")
    client = Client()
    client.force_login(eve)
    part = client.get(f"/runs/{run.pk}/stall-part/").content.decode()
    assert "Stalled in rollout" in part and "Change what is done" not in part


def test_a_run_in_no_stall_shows_none(run, ada):
    client = Client()
    client.force_login(ada)
    assert client.get(f"/runs/{run.pk}/stall-part/").content.decode().strip() == ""


def test_the_policy_form_has_the_field(run, ada):
    client = Client()
    client.force_login(ada)
    answer = client.post(
        f"/runs/{run.pk}/steer/policy/", {"on_stall": "restart", "max_restarts": "3"}
    )
    assert answer.status_code == 302
    run.refresh_from_db()
    assert run.policy == {"on_stall": "restart"}
    assert (
        '<option value="restart" selected>' in client.get(f"/runs/{run.pk}/steer/").content.decode()
    )
    assert "_on_stall" in client.get("/new/?recipe=noisy_sort_grpo").content.decode()
