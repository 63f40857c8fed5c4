"""The plan carried out: places, what each waiting run is told, held room, GPUs that attempts are given."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from orchestrator.models import Attempt, Node, Process, Run
from orchestrator.selectors.run_advice import advice
from orchestrator.services import placement
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_patch, run_stop

GIB = 2**30


def gpus(count: int, memory: int = 80) -> list[dict[str, int]]:
    return [{"index": i, "memory": memory * GIB} for i in range(count)]


def told(run: Run) -> tuple[int | None, str]:
    run.refresh_from_db()
    return run.place, run.reason


def claimed(run: Run) -> Run:
    run.refresh_from_db()
    assert run_claim(node=run.node, run_id=run.pk, attempt=run.attempt) is not None
    run.refresh_from_db()
    return run


def test_every_waiting_run_has_a_place_that_moves_when_somebody_starts(joined, launch, bob, ada):
    joined("n1")
    first, second, third = launch("a1"), launch("a2"), launch("b", owner=bob)
    schedule()
    assert [told(run)[0] for run in (first, second, third)] == [None, 2, 1]
    run_patch(run_id=second.pk, user=ada, changes={"priority": 3})
    schedule()
    assert [told(run)[0] for run in (second, third)] == [1, 2]
    run_stop(run_id=first.pk, user=ada)
    assert schedule() == 1
    assert [told(run)[0] for run in (second, third)] == [None, 1]
    assert told(third)[1] == "Waits for a free slot on n1."


def test_a_child_of_a_run_at_work_has_a_place_too(working, launch):
    parent = working()
    child = launch("child", model={"name": f"run:{parent.pk}"})
    other = launch("other")
    schedule()
    assert told(child) == (1, f"Waits for run {parent}, which is starting.")
    assert told(other)[0] == 2


def test_attempts_are_given_gpus_that_nobody_else_has(joined, launch):
    node = joined("n1", slots=4, gpus=gpus(4))
    runs = [launch("a"), launch("b", resources={"gpus": 2}), launch("c", resources={"gpus": 0})]
    assert schedule() == 3
    orders = []
    for run in runs:
        run.refresh_from_db()
        orders.append(run_claim(node=node, run_id=run.pk, attempt=1))
    assert [(one.gpus, one.processes) for one in orders] == [([0], 1), ([1, 2], 2), ([], 1)]
    assert list(Attempt.objects.order_by("run__created").values_list("slots", flat=True)) == [
        1,
        2,
        1,
    ]
    attempt_end(Run.objects.get(pk=runs[0].pk), 1, Ending("finished", "finished", ""), who="t")
    late = launch("late")
    schedule()
    assert Attempt.objects.get(run=late).gpus == [0]


def test_a_full_set_of_gpus_is_no_room_even_where_slots_are_left(joined, launch):
    joined("n1", slots=3, gpus=gpus(1))
    launch("a")
    second, cpu = launch("b"), launch("cpu", resources={"gpus": 0})
    assert schedule() == 2
    assert told(second) == (1, "Waits for a free GPU on n1.")
    cpu.refresh_from_db()
    assert cpu.process == Process.DISPATCHED


def test_a_big_run_has_room_held_and_the_small_one_behind_it_is_told(joined, launch):
    joined("n1", slots=4, gpus=gpus(4))
    old = launch("old", budget={"max_steps": 10, "max_minutes": 30})
    schedule()
    claimed(old)
    big, small = launch("big", resources={"gpus": 4}), launch("small")
    quick = launch("quick", budget={"max_steps": 10, "max_minutes": 5})
    assert schedule() == 1, "the quick one ends before the big one can start"
    by = Run.objects.get(pk=big.pk).starts_by
    limit = timezone.now() + timedelta(minutes=32)
    assert limit <= by <= limit + timedelta(minutes=5) and by.minute % 5 == 0
    # By the clock where it is today, which a run at midnight sees end.
    day = "" if by.date() == timezone.now().date() else f"{by:%a %d %b} "
    assert told(big) == (
        1,
        f"Waits for 4 free GPUs on n1, which is kept free for it; expected by {day}{by:%H:%M} UTC.",
    )
    assert told(small)[1] == (
        f"Waits behind big ({big.pk}): what is free on n1 is kept for it. A run that sets "
        "budget.max_minutes may pass when it ends before that."
    )
    big.refresh_from_db()
    assert (big.held, big.has_turn) == ([Node.objects.get().pk], True)
    quick.refresh_from_db()
    assert quick.process == Process.DISPATCHED
    attempt_end(Run.objects.get(pk=old.pk), 1, Ending("finished", "finished", ""), who="t")
    attempt_end(claimed(quick), 1, Ending("finished", "finished", ""), who="t")
    schedule()
    big.refresh_from_db()
    assert (big.process, big.held, big.starts_by, big.place) == (Process.DISPATCHED, [], None, None)


def test_what_is_told_stays_the_same_while_nothing_happens(
    joined, launch, django_assert_max_num_queries
):
    joined("n1", slots=2, gpus=gpus(2))
    launch("old")
    schedule()
    big, small = launch("big", resources={"gpus": 2}), launch("small")
    schedule()
    before = told(big), told(small)
    with django_assert_max_num_queries(10):
        schedule()
    assert (told(big), told(small)) == before


def test_a_gpu_of_an_attempt_that_was_given_up_is_nobodys_until_its_node_says_it_is_free(
    joined, launch
):
    node = joined("n1", slots=2, gpus=gpus(2))
    lost = launch("lost", resources={"gpus": 1})
    schedule()
    assert run_claim(node=node, run_id=lost.pk, attempt=1) is not None
    lost.refresh_from_db()
    run_patch(run_id=lost.pk, user=lost.owner, changes={"max_restarts": 0})
    lost.refresh_from_db()
    attempt_end(lost, 1, Ending("failed", "node-lost", "no word"), who="server")
    # Its node is back, and still prepares or trains it on GPU 0.
    node.inventory["gpus_of"] = {lost.pk: [0]}
    node.save()
    first, second = launch("first", resources={"gpus": 1}), launch("second", resources={"gpus": 1})
    schedule()
    given = list(Attempt.objects.filter(run__in=[first, second]).values_list("run", "gpus"))
    assert given == [(first.pk, [1])]
    assert told(second)[1].startswith("Waits for a free GPU on n1")
    node.inventory["gpus_of"] = {first.pk: [1]}
    node.save()
    schedule()
    assert Attempt.objects.get(run=second).gpus == [0]


def test_a_machine_without_gpus_is_no_place_for_several_either_and_says_the_lasting_reason(
    joined, launch
):
    joined("n1", slots=1, gpus=[], processes=1)
    run = launch(resources={"gpus": 2})
    schedule()
    assert "starts 1 training process for a run, 2 are needed (resources.gpus)" in told(run)[1]
    one = launch(resources={"gpus": 1})
    schedule()
    one.refresh_from_db()
    assert one.reason == "No node fits: n1 has no GPU, 1 is needed."
    assert advice(one).startswith("It starts by itself")


def test_several_processes_wait_for_a_node_that_can_start_them(joined, launch):
    node = joined("n1", slots=2, gpus=gpus(2), processes=1)
    run = launch(resources={"gpus": 2})
    assert schedule() == 0
    assert told(run)[1] == (
        "No node fits: n1 starts 1 training process for a run, 2 are needed (resources.gpus)."
    )
    run.refresh_from_db()
    # A node of another version may be able to: the run waits for one.
    assert advice(run).startswith("It starts by itself as soon as a node that fits")
    many = launch(resources={"gpus": 17}, batch={"prompts_per_step": 32})
    assert advice(many).startswith("It does not start by itself: cancel it, clone it")
    node.inventory["processes"] = 2
    node.save()
    assert schedule() == 1


def test_a_run_on_several_machines_gets_all_of_them_or_waits_for_all(joined, launch):
    first, second = (joined(name, slots=2, gpus=gpus(2)) for name in ("n1", "n2"))
    small = launch("small", resources={"gpus": 2})
    assert schedule() == 1
    small.refresh_from_db()
    other = first if small.node == second else second
    gang = launch("gang", resources={"nodes": 2, "gpus": 2})
    wide = launch("wide", resources={"nodes": 3})
    assert schedule() == 0, "half of a gang has started"
    place, words = told(gang)
    assert place == 1
    assert words == "Waits for 2 free GPUs on each of n1, n2, which is kept free for it."
    assert told(wide)[1] == (
        "Needs 3 machines at the same time that reach each other, and only 2 fit."
    )
    late = launch("late", resources={"gpus": 1})
    assert schedule() == 0
    assert told(late)[1].startswith(f"Waits behind {gang}: what is free on {other.name} is kept")


def test_who_has_used_less_goes_first_and_use_is_forgotten(joined, launch, bob):
    node = joined("n1")
    now = timezone.now()
    old = launch("old")
    Run.objects.filter(pk=old.pk).update(state="finished", process="exited", cause="finished")
    Attempt.objects.create(
        run=old,
        number=1,
        node=node,
        claimed=now - timedelta(hours=2),
        ended=now - timedelta(hours=1),
    )
    mine, theirs = launch("mine"), launch("theirs", owner=bob)
    schedule()
    assert (told(mine)[0], told(theirs)[0]) == (1, None)
    Run.objects.filter(pk=theirs.pk).update(state="finished", process="exited")
    Attempt.objects.filter(run=old).update(
        claimed=now - timedelta(days=30), ended=now - timedelta(days=29)
    )
    mine2 = launch("mine2")
    last = launch("last", owner=bob)
    schedule()
    assert [told(run)[0] for run in (mine, mine2, last)] == [None, 2, 1]


@pytest.mark.django_db(transaction=True)
def test_a_scheduler_that_has_counted_is_waited_for(joined, launch, monkeypatch):
    """One that counted what is free before another one gave it away would give it away again."""
    joined("n1")
    for name in ("a", "b"):
        launch(name)
    counted, other_done = threading.Event(), threading.Event()
    read = placement._queued

    def slow(told):
        if threading.current_thread().name == "first":
            counted.set()
            other_done.wait(1.5)
        return read(told)

    monkeypatch.setattr(placement, "_queued", slow)

    def first() -> None:
        schedule()
        connection.close()

    def second() -> None:
        counted.wait()
        schedule()
        other_done.set()
        connection.close()

    threads = [threading.Thread(target=one, name=one.__name__) for one in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Run.objects.filter(process=Process.DISPATCHED).count() == 1
    assert Attempt.objects.count() == 1
