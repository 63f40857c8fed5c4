"""Giving way: only who allows it, only to a higher priority, by a checkpoint, and back into the queue."""

from __future__ import annotations

import pytest

from orchestrator.models import Event, Process, Run
from orchestrator.selectors.wants import want_of
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import Ending, attempt_end, events_apply
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_patch, run_stop


@pytest.fixture
def low(working):
    """A run at work on the only slot, which may be asked to leave."""
    run = working(name="low")
    Run.objects.filter(pk=run.pk).update(preemptible=True, process=Process.ALIVE, state="running")
    run.refresh_from_db()
    return run


def fresh(run: Run) -> Run:
    return Run.objects.get(pk=run.pk)


def test_it_is_asked_saves_goes_back_and_returns_after_the_urgent_one(low, launch):
    urgent = launch("urgent", priority=5)
    schedule()
    assert want_of(fresh(low), 1)["want"] == "stop"
    assert want_of(fresh(low), 1)["cause"] == "preempted"
    assert fresh(low).state == "running"
    assert fresh(low).reason == (
        f"Makes way for urgent ({urgent.pk}) of priority 5: saves a checkpoint, goes on later."
    )
    assert "makes way" in fresh(urgent).reason and fresh(urgent).place == 1
    beat = {"seq": 1, "time": 1.0, "type": "heartbeat", "expect_next_in": 20, "step": 4}
    events_apply(run=fresh(low), attempt=1, source="trainer", events=[beat])
    assert "Makes way" in fresh(low).reason, "a heartbeat does not wipe it"
    schedule()
    assert Event.objects.filter(run=low, data__code="gives-way").count() == 1, "asked once"
    attempt_end(fresh(low), 1, Ending("stopped", "preempted", "Made way for it."), who="t")
    back = fresh(low)
    assert (back.state, back.cause, back.restarts) == ("queued", "preempted", 0)
    assert (back.leaves_for, back.process) == ("", Process.NONE)
    schedule()
    assert (fresh(urgent).process, fresh(low).place) == (Process.DISPATCHED, 1)
    run_claim(node=low.node, run_id=urgent.pk, attempt=1)
    attempt_end(fresh(urgent), 1, Ending("finished", "finished", ""), who="t")
    schedule()
    assert (fresh(low).process, fresh(low).attempt) == (Process.DISPATCHED, 2)


def test_who_does_not_allow_it_or_has_the_same_priority_stays(low, launch):
    Run.objects.filter(pk=low.pk).update(preemptible=False)
    launch("urgent", priority=5)
    schedule()
    assert want_of(fresh(low), 1)["want"] == "run"
    Run.objects.filter(pk=low.pk).update(preemptible=True, priority=5)
    schedule()
    assert fresh(low).leaves_for == ""


@pytest.mark.parametrize("how", ["stopped", "lowered", "forbidden"])
def test_it_stays_when_nobody_needs_its_place_any_more(low, launch, ada, how):
    urgent = launch("urgent", priority=5)
    schedule()
    assert fresh(low).leaves_for == urgent.pk
    if how == "stopped":
        run_stop(run_id=urgent.pk, user=ada)
    elif how == "lowered":
        run_patch(run_id=urgent.pk, user=ada, changes={"priority": 0})
    else:
        run_patch(run_id=low.pk, user=ada, changes={"preemptible": False})
    schedule()
    assert (fresh(low).leaves_for, fresh(low).reason) == ("", "")
    assert want_of(fresh(low), 1)["want"] == "run"


def test_what_people_ask_of_it_counts_more(low, launch, ada):
    launch("urgent", priority=5)
    schedule()
    run_stop(run_id=low.pk, user=ada)
    assert want_of(fresh(low), 1)["cause"] == "user"
    attempt_end(fresh(low), 1, Ending("stopped", "user", "stopped"), who="t")
    assert fresh(low).state == "stopped"
