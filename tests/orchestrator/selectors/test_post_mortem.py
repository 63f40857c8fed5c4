"""The post-mortem as a whole: which attempt, what first, what was healthy, what was made of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Node, NodeReading, Process, Run, ShipReport, State
from orchestrator.selectors.post_mortem import (
    NoPostMortem,
    post_mortem_attempts,
    post_mortem_newest,
    post_mortem_read,
)
from orchestrator.services.lost import sweep
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.failing import Story

pytestmark = pytest.mark.django_db


def nan_at_26(run: Run) -> Story:
    story = Story(run).begin().steps(1, 20).save(20).steps(21, 25).steps(26, 26, loss="NaN")
    return story.fails("nan", "step 26: loss became nan")


def claimed_again(run: Run) -> None:
    """A second attempt of a run that went back to the queue."""
    attempt_add(run, 2)
    Run.objects.update(process=Process.ALIVE, state=State.RUNNING)
    run.refresh_from_db()


def test_nan_is_found_at_its_step_with_what_was_healthy_before(run: Run) -> None:
    nan_at_26(run)
    found = post_mortem_read(run)
    assert (found["attempt"], found["cause"], found["said_by"]) == (1, "nan", "trainer")
    assert (found["exit_words"], found["node"]) == ("exit code 1", "n1")
    assert (found["first"]["code"], found["first"]["metric"]) == ("not-a-number", "loss")
    assert found["first"]["step"] == 26
    healthy = found["healthy"]
    assert (healthy["step"], healthy["last_step"], healthy["checkpoint"]["step"]) == (25, 25, 20)
    assert healthy["lost_steps"] == 5 and healthy["lost_seconds"] == pytest.approx(5.0)
    assert found["outcome"]["what"] == "ended"
    assert "after step 25: not a number (exit code 1)" in found["words"]
    assert "lower optimizer.lr" in found["advice"][0]
    assert f"/runs/{run.pk}/metrics/?from=0&to=41&q=loss" == found["first"]["link"]


def test_a_kill_leaves_no_signal_and_that_is_said(run: Run) -> None:
    Story(run).begin().steps(1, 200).save(200).steps(201, 230).is_killed()
    found = post_mortem_read(run)
    assert found["first"] is None and found["signals"] == []
    assert (found["said_by"], found["signal"], found["exit_code"]) == ("host", "SIGKILL", -9)
    assert (found["healthy"]["step"], found["healthy"]["lost_steps"]) == (230, 30)
    assert found["outcome"]["what"] == "waits"
    assert found["outcome"]["why"] == "Continues from its newest checkpoint (restart 1 of 3)."
    assert "First bad signal: none was seen" in found["markdown"]


def test_the_earliest_of_all_kinds_is_the_first_and_the_others_follow(run: Run, node: Node) -> None:
    story = Story(run).begin().steps(1, 150)
    full = timezone.now() - timedelta(seconds=600 - 140)
    NodeReading.objects.create(node=node, time=full, memory=40.0)
    NodeReading.objects.create(node=node, time=full + timedelta(seconds=6), memory=97.0)
    story.steps(151, 151, grad_norm=90.0).steps(152, 152, loss="Infinity").wait(1)
    story.alert("checkpoint", "error").wait(1)
    story.prints("Traceback (most recent call last):", '  File "x.py"', "ValueError: no").wait(1)
    story.is_killed()
    found = post_mortem_read(run)
    order = [found["first"]["code"], *(one["code"] for one in found["signals"])]
    assert order == ["ram-full", "unusual", "infinite", "checkpoint", "traceback"]
    assert found["first"]["step"] == 146, "the last step before the reading"
    # The machine's load says nothing about the weights; the spike does.
    assert found["healthy"]["step"] == 150
    assert found["signals"][3]["text"] == "ValueError: no"
    assert "RAM was nearly full" in found["advice"][1]


@pytest.mark.parametrize(("cause", "code"), [("nan", 1), ("crash", 1), ("bad-input", 2)])
def test_a_full_machine_has_nothing_to_do_with_what_the_trainer_itself_raised(
    run: Run, node: Node, cause: str, code: int
) -> None:
    story = Story(run).begin().steps(1, 100)
    moment = timezone.now() - timedelta(seconds=520)
    NodeReading.objects.create(node=node, time=moment, memory=99.0)
    story.fails(cause, "said", code)
    assert post_mortem_read(run)["first"] is None


def test_an_attempt_is_looked_at_alone(run: Run) -> None:
    """A resumed attempt logs steps again: the older one keeps its own, and each has a post-mortem."""
    Run.objects.update(policy={"on_nan": "rollback"})
    run.refresh_from_db()
    nan_at_26(run)
    assert run.state == "queued" and run.voids == [[1, 20]]
    claimed_again(run)
    second = Story(run, attempt=2, ago=300).begin(20).steps(21, 30).save(30).steps(31, 33)
    second.prints("CUDA error: an illegal memory access was encountered").is_killed()
    assert post_mortem_attempts(run) == [1, 2]
    older, newer = post_mortem_read(run, 1), post_mortem_read(run)
    assert (older["cause"], older["first"]["step"], older["healthy"]["step"]) == ("nan", 26, 25)
    assert older["healthy"]["checkpoint"]["step"] == 20
    assert older["outcome"]["what"] == "rolled-back"
    assert older["outcome"]["words"] == "Rolled back to step 20. Restarted as attempt 2."
    assert "optimizer.lr 0.0001 → 5e-05" in older["outcome"]["why"]
    assert older["others"] == [2] and newer["others"] == [1]
    assert older["first"]["link"].endswith("q=loss&attempt=1")
    assert (newer["attempt"], newer["first"]["code"]) == (2, "cuda")
    assert (newer["healthy"]["step"], newer["healthy"]["checkpoint"]["step"]) == (33, 30)
    assert newer["healthy"]["lost_steps"] == 3


def test_a_failure_before_the_first_step_has_a_post_mortem(run: Run) -> None:
    story = Story(run).tell({"type": "status", "state": "starting", "phase": "load", "step": 0})
    story.fails("bad-input", "data.train: there is no column 'prompt'", 2)
    found = post_mortem_read(run)
    assert (found["healthy"]["step"], found["healthy"]["last_step"]) == (None, None)
    assert (found["first"], found["log"], found["log_from"]) == (None, [], "none")
    assert "before its first step" in found["words"]
    assert "it logged no step" in found["markdown"]


def test_steps_of_a_warm_up_are_called_so(run: Run) -> None:
    names = {"warmup/loss": 1.0, "warmup/grad_norm": 0.5}
    story = Story(run).begin()
    for step in range(1, 9):
        story.now += 1
        event = {"type": "metrics", "step": step, "values": dict(names)}
        story.tell({**event, "values": {**names, "warmup/loss": "NaN"}} if step == 8 else event)
    story.fails("nan", "step 8: loss became nan")
    found = post_mortem_read(run)
    assert (found["first"]["metric"], found["first"]["step"]) == ("warmup/loss", 8)
    assert found["healthy"]["warm_up"] and found["healthy"]["step"] == 7
    assert found["healthy"]["lost_steps"] is None
    assert "step 7 of the warm-up" in found["markdown"]


def test_a_run_that_is_lost_now_has_one_that_says_so(run: Run, node: Node) -> None:
    Story(run, ago=140).begin().steps(1, 40)
    silent = timezone.now() - timedelta(seconds=100)
    Run.objects.update(last_contact=silent)
    Attempt.objects.update(lease_expires=silent + timedelta(seconds=30))
    run.streams.update(received=silent)
    run.refresh_from_db()
    found = post_mortem_newest(run)
    assert found is not None
    assert (found["state"], found["cause"], found["ended"]) == ("lost", "", None)
    assert found["first"]["code"] == "silent"
    assert abs((found["first"]["time"] - silent).total_seconds()) < 0.1
    assert "Nothing has been heard of attempt 1 on n1 since" in found["words"]
    assert found["healthy"]["step"] == 40


def test_a_lost_node_is_the_servers_word_and_the_silence_begins_at_the_last_word(
    run: Run, node: Node
) -> None:
    Story(run, ago=140).begin().steps(1, 40)
    silent = timezone.now() - timedelta(seconds=100)
    Run.objects.update(last_contact=silent)
    Attempt.objects.update(lease_expires=silent + timedelta(seconds=30))
    run.streams.update(received=silent)
    heard = timezone.now() - timedelta(hours=1)
    Node.objects.create(
        name="n2", token_digest="x", last_seen=timezone.now(), heard_since=heard, joined=heard
    )
    sweep()
    run.refresh_from_db()
    found = post_mortem_read(run)
    assert (found["cause"], found["said_by"], found["state"]) == ("node-lost", "server", "ended")
    assert found["first"]["code"] == "silent"
    assert abs((found["first"]["time"] - silent).total_seconds()) < 0.1
    assert found["outcome"]["what"] == "waits"


def test_a_stall_that_lasts_is_the_first_signal_and_has_its_stacks(run: Run) -> None:
    story = Story(run, ago=120).begin().steps(1, 40).wait(60)
    data = {"phase": "train", "silent_s": 60, "expected_s": 8, "gpu": None, "processes": [],
            "stacks": [{"pid": 7, "name": "trainer", "text": "wait (lock.py:3)"}]}  # fmt: skip
    story.alert("stall", "error", source="host", data=data)
    Run.objects.update(last_contact=timezone.now())
    run.refresh_from_db()
    found = post_mortem_newest(run)
    assert found is not None
    assert (found["state"], found["cause"], found["first"]["code"]) == ("stalled", "stall", "stall")
    assert [one["code"] for one in found["signals"]] == [], "the pause is the same thing"
    assert found["healthy"]["step"] == 40
    assert found["stall"]["stacks"] == [
        {"title": "pid 7, name trainer", "text": "wait (lock.py:3)"}
    ]
    assert "wait (lock.py:3)" in found["markdown"]
    story.alert("stall-over", "info", source="host")
    assert post_mortem_newest(run) is None


def test_times_are_the_servers(run: Run) -> None:
    """The node's clock is two minutes ahead; what it wrote is shown by the server's."""
    story = nan_at_26(run)
    ShipReport.objects.create(
        run=run, attempt=1, received=timezone.now(), clock_offset=120.0, clock_within=0.01
    )
    found = post_mortem_read(run)
    assert found["first"]["time"].timestamp() == pytest.approx(story.now - 120, abs=0.01)
    assert found["ended"].timestamp() == pytest.approx(story.now - 120, abs=0.01)
    assert found["healthy"]["step"] == 25


def test_what_ended_well_has_none_and_a_sentence_says_why(run: Run, ada: Any) -> None:
    with pytest.raises(NoPostMortem, match="attempt 1: it is at work and in contact"):
        post_mortem_read(run, 1)
    with pytest.raises(NoPostMortem, match="has no attempt 7; it has had 1"):
        post_mortem_read(run, 7)
    word = {"type": "status", "state": "finished", "cause": "finished", "message": "done"}
    Story(run).begin().steps(1, 3).tell(word)
    assert post_mortem_newest(run) is None
    with pytest.raises(NoPostMortem, match="none of its attempts ended badly"):
        post_mortem_read(run)
    with pytest.raises(NoPostMortem, match="attempt 1: it ended with the cause “finished”"):
        post_mortem_read(run, 1)
    fresh = Run.objects.create(name="new", owner=ada, spec={})
    with pytest.raises(NoPostMortem, match="it never had an attempt"):
        post_mortem_read(fresh)


@pytest.mark.parametrize("cause", ["preempted", "server-stopped", "user", "budget", "paused"])
def test_an_attempt_that_made_way_has_none(run: Run, cause: str) -> None:
    Attempt.objects.update(ended=timezone.now(), cause=cause)
    assert post_mortem_attempts(run) == []


def test_it_asks_the_database_a_fixed_number_of_questions(
    run: Run, django_assert_max_num_queries: Any
) -> None:
    nan_at_26(run)
    with django_assert_max_num_queries(40):
        post_mortem_read(run)
