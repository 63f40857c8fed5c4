"""Placement: who goes first, where, and why the others wait."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from orchestrator.models import Attempt, Checkpoint, Event, Node, Process, Run
from orchestrator.services import lost
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule, sweep
from orchestrator.services.runs import run_stop
from trainer import registry

GIB = 2**30


def reason(run: Run) -> str:
    run.refresh_from_db()
    return run.reason


def sent_to(run: Run) -> str | None:
    run.refresh_from_db()
    return run.node.name if run.process == Process.DISPATCHED else None


def silent(run: Run, seconds: float) -> None:
    Run.objects.filter(pk=run.pk).update(last_contact=timezone.now() - timedelta(seconds=seconds))


def node_silent(node: Node, seconds: float) -> None:
    Node.objects.filter(pk=node.pk).update(last_seen=timezone.now() - timedelta(seconds=seconds))


def test_a_run_goes_to_a_node_with_one_message_after_the_commit(
    joined, launch, messages, django_capture_on_commit_callbacks
):
    joined("n1")
    run = launch()
    with django_capture_on_commit_callbacks(execute=True):
        assert schedule() == 1
        assert messages == []
    assert messages == [("node_launch", [run.pk, 1], "node.n1")]
    run.refresh_from_db()
    assert (run.state, run.process, run.attempt) == ("queued", Process.DISPATCHED, 1)
    assert schedule() == 0


def test_priority_then_fairness_then_age(joined, launch, bob):
    node = joined(slots=1)
    first, second = launch("a1"), launch("a2")
    other, urgent = launch("b1", owner=bob), launch("urgent", priority=5)
    order = []
    for _ in range(4):
        schedule()
        run = Run.objects.get(process=Process.DISPATCHED)
        order.append(run.name)
        run_claim(node=node, run_id=run.pk, attempt=1)
        attempt_end(Run.objects.get(pk=run.pk), 1, Ending("finished", "finished", ""), who="t")
    assert order == ["urgent", "a1", "a2", "b1"]
    node.slots = 2
    node.save()
    again = [launch("a3"), launch("a4"), launch("b2", owner=bob)]
    schedule()
    assert [sent_to(run) for run in again] == ["n1", None, "n1"]
    assert first and second and other and urgent


def test_every_waiting_run_says_why(joined, launch):
    run = launch()
    schedule()
    assert reason(run) == "Waits for a node: none has joined yet."
    node = joined("n1", cpus=2)
    node_silent(node, 999)
    schedule()
    assert reason(run) == "Waits for a node: none is connected."
    Node.objects.update(last_seen=timezone.now(), drained=True)
    schedule()
    assert "drained" in reason(run)
    Node.objects.update(drained=False)
    schedule()
    assert sent_to(run) == "n1"
    crowd = launch("second")
    schedule()
    assert reason(crowd) == "Waits for a free slot on n1."


@pytest.mark.parametrize(
    ("wants", "words"),
    [
        ({"resources": {"gpus": 1}}, "has no GPU, 1 is needed"),
        ({"resources": {"cpus": 9}}, "has 4 CPU threads, 9 are needed"),
        (
            {"resources": {"gpus": 0, "processes": 9}},
            "starts 8 training processes for a run, 9 are needed (resources.processes)",
        ),
        (
            {"resources": {"gpus": 0, "processes": 3, "cpus": 2}},
            "has 4 CPU threads, 6 are needed",
        ),
        ({"resources": {"labels": ["fast"]}}, "lacks the label fast"),
        ({"resources": {"min_vram_gb": 8}}, "has no GPU, 1 is needed"),
    ],
)
def test_a_run_that_no_node_fits_says_what_is_missing(joined, launch, wants, words):
    joined("n1")
    run = launch(**wants)
    assert schedule() == 0
    assert reason(run) == f"No node fits: n1 {words}."


def test_gpus_memory_and_labels_choose_the_node(joined, launch):
    joined("small", gpus=[{"index": 0, "memory": 8 * GIB}])
    joined(
        "large", slots=2, labels=["fast"], gpus=[{"index": i, "memory": 80 * GIB} for i in (0, 1)]
    )
    run = launch(resources={"gpus": 2, "min_vram_gb": 40, "labels": ["fast"]})
    after = launch("after", resources={"min_vram_gb": 40})
    schedule()
    assert (sent_to(run), sent_to(after)) == ("large", None)
    assert reason(after) == "Waits for a free GPU with 40 GiB on large."


def test_a_node_with_another_version_of_a_method_gets_no_run_that_uses_it(joined, launch):
    theirs = {**registry.hashes(), "objectives/sft": "0" * 64}
    joined("n1", methods=theirs)
    run = launch()
    schedule()
    assert reason(run) == "No node fits: n1 has another version of the method objectives/sft."
    del theirs["objectives/sft"]
    Node.objects.update(inventory={"cpus": 4, "methods": theirs})
    schedule()
    assert "lacks the method objectives/sft" in reason(run)


@pytest.mark.django_db(transaction=True)
def test_schedulers_that_race_fill_each_slot_once(joined, launch, messages):
    joined("n1", slots=2)
    joined("n2", slots=1)
    runs = [launch(f"r{i}") for i in range(8)]
    messages.clear()
    gate = threading.Barrier(4)

    def race() -> None:
        gate.wait()
        schedule()
        connection.close()

    threads = [threading.Thread(target=race) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    launches = [arguments[0] for task, arguments, _ in messages if task == "node_launch"]
    assert len(launches) == len(set(launches)) == 3
    assert Run.objects.filter(process=Process.DISPATCHED, attempt=1).count() == 3
    assert Attempt.objects.count() == 3
    assert len(runs) == 8


def test_a_child_waits_for_its_parents_checkpoint(working, launch):
    parent = working()
    child = launch("child", model={"name": f"run:{parent.pk}"})
    schedule()
    assert reason(child) == f"Waits for run tiny ({parent.pk}), which is starting."
    Checkpoint.objects.create(run=parent, attempt=1, step=10, sha256="a", path="p", final=True)
    attempt_end(parent, 1, Ending("finished", "finished", ""), who="t")
    assert schedule() == 1
    assert sent_to(child) == "n1"


def test_a_run_waits_for_the_run_of_its_reference_too(working, launch):
    parent = working()
    compared = {"objective": {"type": "dpo"}, "reference": {"name": f"run:{parent.pk}"}}
    child = launch("child", **compared)
    schedule()
    assert reason(child).startswith("Waits for run tiny")
    Run.objects.filter(pk=child.pk).update(spec={**child.spec, "reference": {"name": "run:gone"}})
    schedule()
    assert reason(child) == "Run gone, which it should start from, was deleted."


def test_a_long_queue_costs_few_statements(joined, launch, django_assert_max_num_queries):
    joined("n1")
    first = launch()
    Run.objects.bulk_create(
        Run(name=f"r{i}", owner=first.owner, spec=first.spec, state="queued") for i in range(300)
    )
    schedule()
    assert Run.objects.filter(reason="Waits for a free slot on n1.").count() == 300
    with django_assert_max_num_queries(10):
        schedule()


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (Ending("failed", "nan", "loss is NaN"), "has failed"),
        (Ending("finished", "finished", ""), "left no checkpoint"),
    ],
)
def test_a_child_fails_with_its_parent(working, launch, ending, words):
    parent = working()
    child = launch("child", model={"name": f"run:{parent.pk}"})
    grandchild = launch("grandchild", model={"name": f"run:{child.pk}"})
    attempt_end(parent, 1, ending, who="t")
    schedule()
    assert words in reason(child)
    schedule()
    assert "has failed" in reason(grandchild)
    assert (child.state, child.cause) == ("failed", "parent")
    assert child.ended is not None


def test_a_lost_message_is_sent_again_after_a_while(
    joined, launch, messages, django_capture_on_commit_callbacks
):
    joined("n1")
    run = launch()
    schedule()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert messages == []
    Attempt.objects.update(sent=timezone.now() - timedelta(seconds=6))
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
        sweep()
    assert messages == [("node_launch", [run.pk, 1], "node.n1")]


def test_a_message_that_a_dead_node_never_takes_goes_elsewhere(joined, launch):
    dead = joined("dead")
    run = launch()
    schedule()
    node_silent(dead, 999)
    joined("spare")
    sweep()
    schedule()
    assert (sent_to(run), run.attempt) == ("spare", 2)
    # The old message arrives after all, and loses.
    assert run_claim(node=dead, run_id=run.pk, attempt=1) is None


def test_silence_is_lost_and_word_brings_the_run_back(working):
    run = working()
    silent(run, 46)
    sweep()
    run.refresh_from_db()
    assert run.state == "lost" and "No word from n1 since" in run.reason
    from orchestrator.services.outcomes import events_apply

    beat = {"seq": 1, "time": 1.0, "type": "heartbeat", "expect_next_in": 20}
    events_apply(run=run, attempt=1, source="host", events=[beat])
    run.refresh_from_db()
    assert (run.state, run.reason) == ("starting", "")


def test_a_lost_run_continues_elsewhere_while_restarts_remain(working, joined):
    run = working(max_restarts=1)
    Node.objects.update(heard_since=timezone.now() - timedelta(hours=1))
    joined("spare")
    Node.objects.update(heard_since=timezone.now() - timedelta(hours=1))
    silent(run, 56)
    sweep()
    run.refresh_from_db()
    assert (run.state, run.cause, run.restarts) == ("queued", "node-lost", 1)
    assert "restart 1 of 1" in run.reason
    schedule()
    run.refresh_from_db()
    assert run.attempt == 2
    run_claim(node=run.node, run_id=run.pk, attempt=2)
    silent(run, 56)
    sweep()
    run.refresh_from_db()
    assert (run.state, run.process) == ("lost", Process.EXITED)
    assert "All 1 restarts are used." in run.reason
    states = [
        e.data["state"] for e in Event.objects.filter(run=run, source="server").order_by("id")
    ]
    assert states[-1] == "lost" and "queued" in states


def test_silence_while_the_server_could_not_listen_requeues_nothing(working):
    run = working()
    silent(run, 3600)
    Node.objects.update(last_seen=timezone.now() - timedelta(hours=1))
    sweep()
    run.refresh_from_db()
    assert (run.state, run.process) == ("lost", Process.CLAIMED)
    # The node is heard again; its run gets the same time to speak as after any other word.
    Node.objects.update(last_seen=timezone.now(), heard_since=timezone.now())
    sweep()
    run.refresh_from_db()
    assert (run.attempt, run.process) == (1, Process.CLAIMED)


def test_a_lost_run_that_people_stopped_stays_stopped(working, ada):
    run = working()
    run_stop(run_id=run.pk, user=ada, message="enough")
    Node.objects.update(heard_since=timezone.now() - timedelta(hours=1))
    silent(run, 56)
    sweep()
    run.refresh_from_db()
    assert (run.state, run.cause) == ("stopped", "user")
    assert run.reason.startswith("Stopped by ada: enough")


@pytest.mark.parametrize("restarts", [0, 3])
def test_an_attempt_that_was_given_up_and_speaks_again_is_told_to_end(working, restarts):
    """No other node is free, or no restart is left: the run is shown as waiting or lost, and must not train."""
    from orchestrator.selectors.wants import want_of
    from orchestrator.services.ingest import beat
    from orchestrator.services.nodes import node_heartbeat

    run = working()
    Run.objects.filter(pk=run.pk).update(max_restarts=restarts)
    Node.objects.update(heard_since=timezone.now() - timedelta(hours=1))
    assert want_of(run, 1)["want"] == "run"
    silent(run, 56)
    sweep()
    run.refresh_from_db()
    assert run.state == ("queued" if restarts else "lost") and run.attempt == 1
    told = beat(run_id=run.pk, attempt=1)
    assert (told["want"], told["cause"]) == ("stop", "fenced")
    here = [{"run": run.pk, "attempt": 1}]
    assert node_heartbeat(node=run.node, inventory={}, expect_next_in=15, runs=here) == here
    run.refresh_from_db()
    assert run.state == ("queued" if restarts else "lost")


def test_a_trainer_that_breaks_its_promise_is_named_while_its_host_lives(working):
    from orchestrator.models import Stream

    run = working()
    heard = timezone.now() - timedelta(seconds=200)
    Run.objects.filter(pk=run.pk).update(process=Process.ALIVE, expect_next_in=60)
    Stream.objects.create(run=run, attempt=1, source="trainer", received=heard)
    sweep()
    run.refresh_from_db()
    assert run.state == "running" and "The trainer has said nothing since" in run.reason


def test_a_silent_trainer_is_not_blamed_while_ship_is_silent_too(working):
    """Ship hangs, the trainer goes on: nobody here can know that it said nothing."""
    from orchestrator.models import ShipReport, Stream

    run = working()
    heard = timezone.now() - timedelta(seconds=200)
    Run.objects.filter(pk=run.pk).update(process=Process.ALIVE, expect_next_in=60)
    Stream.objects.create(run=run, attempt=1, source="trainer", received=heard)
    report = ShipReport.objects.create(run=run, attempt=1, received=heard)
    sweep()
    assert "It may have: ship, which carries its words, is silent too." in reason(run)
    report.received = timezone.now()
    report.save()
    sweep()
    assert "The trainer has said nothing since" in reason(run)


def test_a_closed_node_gets_nothing_and_keeps_the_reason(joined, launch):
    node = joined("n1")
    run = launch()
    Run.objects.filter(pk=run.pk).update(reason="server stopped")
    Node.objects.filter(pk=node.pk).update(closed=timezone.now())
    assert schedule() == 0
    assert reason(run) == "server stopped"
    assert timedelta(minutes=1) > lost.LOST_FOR
