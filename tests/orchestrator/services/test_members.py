"""Gangs: all machines or none hold room, each claims its own place, and one that is missing ends it for all."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Event, Member, Node, Process, Removal, Run
from orchestrator.selectors.fair_share import unit_seconds
from orchestrator.selectors.nodes import node_runs
from orchestrator.selectors.queue import share_rows
from orchestrator.selectors.situation import situation_read
from orchestrator.selectors.wants import want_of
from orchestrator.services import lost
from orchestrator.services.claims import claim_fail, run_claim
from orchestrator.services.members import member_of_lease
from orchestrator.services.nodes import node_heartbeat
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule, sweep
from orchestrator.services.runs import run_stop
from orchestrator.services.shelf import run_delete
from tests.orchestrator.telemetry import push

GANG = {"nodes": 2}


@pytest.fixture
def pair(joined):
    return [joined(name) for name in ("n1", "n2")]


@pytest.fixture
def gang(pair, launch):
    """A gang that was sent to both machines."""
    run = launch("gang", resources=GANG)
    assert schedule() == 1
    run.refresh_from_db()
    return run


@pytest.fixture
def first(gang):
    return gang.node


@pytest.fixture
def other(pair, first):
    return next(node for node in pair if node.pk != first.pk)


def claim(run: Run, node: Node, attempt: int = 1):
    return run_claim(node=node, run_id=run.pk, attempt=attempt)


def vouch(run: Run, node: Node, attempt: int = 1):
    """A heartbeat of the node that sees its part at work; the attempts that it is to end."""
    return node_heartbeat(
        node=node,
        inventory=node.inventory,
        expect_next_in=15,
        runs=[{"run": run.pk, "attempt": attempt}],
        instance=node.instance,
    )


def state(run: Run) -> tuple[str, str]:
    run.refresh_from_db()
    return str(run.state), str(run.process)


def holds(pair, busy):
    now = timezone.now()
    facts = situation_read(nodes=pair, busy=busy, waiting={}, now=now).facts
    return {(hold.machine, hold.slots) for hold in facts.holds}


def test_one_plan_sends_one_message_to_each_machine(
    pair, launch, messages, django_capture_on_commit_callbacks
):
    run = launch(resources=GANG)
    with django_capture_on_commit_callbacks(execute=True):
        assert schedule() == 1
    assert sorted(messages) == [
        ("node_launch", [run.pk, 1], "node.n1"),
        ("node_launch", [run.pk, 1], "node.n2"),
    ]
    run.refresh_from_db()
    assert run.reason == f"Sent to {run.node.name}, {Member.objects.get().node.name}."


def test_all_its_room_is_held_from_the_plan_to_the_end(gang, pair, launch, ada, first, other):
    assert holds(pair, [gang]) == {(first.pk, 1), (other.pk, 1)}
    small = launch("small")
    assert schedule() == 0, "the other machine's slot was given away"
    assert claim(gang, first) and claim(gang, other)
    assert schedule() == 0
    for node in pair:
        assert node_runs(node) == [gang]
    assert share_rows()[0]["held"] == 2
    Attempt.objects.update(claimed=timezone.now() - timedelta(seconds=100))
    assert unit_seconds(timezone.now())[ada.pk] == pytest.approx(200, abs=10)
    gang.refresh_from_db()
    attempt_end(gang, 1, Ending("finished", "finished", ""), who="t")
    assert [node_runs(node) for node in pair] == [[], []]
    assert Member.objects.get().ended is not None
    assert schedule() == 1 and small.pk


def test_each_machine_claims_its_own_place_once(gang, first, other, joined):
    stranger = joined("n3")
    assert claim(gang, stranger) is None
    led, further = claim(gang, first), claim(gang, other)
    assert (led.gang["index"], further.gang["index"]) == (0, 1)
    assert led.gang["names"] == further.gang["names"] == [first.name, other.name]
    assert led.gang["secret"] == further.gang["secret"] and len(led.gang["secret"]) == 64
    assert led.lease_token != further.lease_token
    assert claim(gang, first) is None and claim(gang, other) is None
    assert state(gang) == ("starting", Process.CLAIMED)


def test_the_order_of_claims_does_not_matter(gang, first, other):
    assert claim(gang, other).gang["index"] == 1
    assert state(gang) == ("queued", Process.DISPATCHED)
    assert vouch(gang, other) == [], "it prepares, and is to go on"
    assert claim(gang, first).gang["index"] == 0


def test_a_run_on_one_machine_has_no_gang(working):
    run = working()
    assert Member.objects.count() == 0 and run.pk


def test_two_attempts_have_two_secrets(gang, first, other):
    one = claim(gang, first).gang["secret"]
    gang.refresh_from_db()
    attempt_end(gang, 1, Ending("failed", "killed", "x"), who="t")
    schedule()
    gang.refresh_from_db()
    assert gang.attempt == 2
    assert claim(gang, gang.node, attempt=2).gang["secret"] != one


def test_cancelled_and_old_orders_lose_on_every_machine(gang, first, other, ada):
    run_stop(run_id=gang.pk, user=ada)
    assert claim(gang, first) is None and claim(gang, other) is None


def test_a_machine_that_has_claimed_ends_its_part_when_the_run_was_stopped(gang, first, other, ada):
    claim(gang, other)
    run_stop(run_id=gang.pk, user=ada)
    assert state(gang)[0] == "stopped"
    assert vouch(gang, other) == [{"run": gang.pk, "attempt": 1}]


@pytest.mark.parametrize("claims_first", [True, False], ids=["first", "other"])
def test_no_half_gang_holds_room_for_ever(gang, first, other, claims_first, monkeypatch):
    taken, missing = (first, other) if claims_first else (other, first)
    claim(gang, taken)
    sweep()
    assert state(gang)[1] in (Process.DISPATCHED, Process.CLAIMED)
    Attempt.objects.update(dispatched=timezone.now() - timedelta(seconds=61))
    sweep()
    assert state(gang) == ("queued", Process.NONE)
    assert gang.reason == f"{missing.name} did not take the run; looking for another node."
    assert gang.restarts == 0
    assert claim(gang, missing) is None, "the order is old by now"
    assert vouch(gang, taken) == [{"run": gang.pk, "attempt": 1}]
    assert want_of(gang, 1)["cause"] == "fenced"
    assert Member.objects.get().ended is not None
    assert schedule() == 1
    assert state(gang)[1] == Process.DISPATCHED and gang.attempt == 2


def test_an_order_that_was_not_taken_is_sent_again_to_whom_it_lacks(
    gang, first, other, messages, django_capture_on_commit_callbacks
):
    claim(gang, first)
    Attempt.objects.update(sent=timezone.now() - timedelta(seconds=6))
    messages.clear()
    with django_capture_on_commit_callbacks(execute=True):
        sweep()
    assert messages == [("node_launch", [gang.pk, 1], f"node.{other.name}")]


def test_a_machine_that_cannot_begin_ends_it_for_all(gang, first, other):
    claim(gang, first)
    claim(gang, other)
    words = {"cause": "bad-input", "message": f"{other.name} lacks the model."}
    assert claim_fail(node=other, run_id=gang.pk, attempt=2, **words) is False
    assert claim_fail(node=other, run_id=gang.pk, attempt=1, **words) is True
    assert state(gang) == ("failed", Process.EXITED)
    assert gang.reason == f"{other.name} lacks the model."
    # The first machine's trainer waits for it, and hears that it is over.
    assert want_of(gang, 1)["cause"] == "fenced"
    assert vouch(gang, first) == [{"run": gang.pk, "attempt": 1}]
    assert claim_fail(node=other, run_id=gang.pk, attempt=1, **words) is False


def test_a_machine_that_cannot_begin_before_the_first_has_claimed(gang, first, other):
    claim(gang, other)
    assert claim_fail(node=other, run_id=gang.pk, attempt=1, cause="gpu-busy", message="busy.")
    assert state(gang)[0] == "queued" and gang.restarts == 1
    assert claim(gang, first) is None


def test_a_further_machine_that_falls_silent_ends_it_and_it_is_tried_again(
    gang, first, other, joined
):
    claim(gang, first)
    claim(gang, other)
    long_ago = timezone.now() - timedelta(seconds=500)
    Node.objects.update(heard_since=long_ago)
    Member.objects.update(last_seen=timezone.now() - timedelta(seconds=50))
    sweep()
    assert state(gang)[0] == "starting", "within lease and grace"
    Member.objects.update(last_seen=timezone.now() - timedelta(seconds=60))
    sweep()
    assert gang.pk and state(gang)[0] == "queued"
    assert gang.reason.startswith(f"Lost: no word from {other.name} (machine 2) since")
    assert gang.restarts == 1
    assert want_of(gang, 1)["cause"] == "fenced"
    # Elsewhere: the third machine takes its place.
    Node.objects.filter(pk=other.pk).update(last_seen=long_ago)
    joined("n3")
    assert schedule() == 1
    gang.refresh_from_db()
    names = {gang.node.name, Member.objects.get(attempt__number=2).node.name}
    assert names == {first.name, "n3"}


def test_a_node_process_that_is_away_ends_no_training(gang, first, other):
    claim(gang, first)
    claim(gang, other)
    Node.objects.update(heard_since=timezone.now() - timedelta(seconds=500))
    Member.objects.update(last_seen=timezone.now() - timedelta(seconds=500))
    Run.objects.update(process=Process.ALIVE)
    sweep()
    assert state(gang)[1] == Process.ALIVE


def test_silence_is_no_sign_while_this_server_heard_nobody(gang, first, other):
    claim(gang, first)
    claim(gang, other)
    Member.objects.update(last_seen=timezone.now() - timedelta(seconds=500))
    Node.objects.update(heard_since=timezone.now())
    sweep()
    assert state(gang)[0] == "starting"
    assert lost._hearing_since() is not None


def test_heartbeats_vouch_for_every_machines_part(gang, first, other):
    claim(gang, first)
    claim(gang, other)
    Member.objects.update(last_seen=None)
    assert vouch(gang, first) == [] and vouch(gang, other) == []
    assert Member.objects.get().last_seen is not None
    gang.refresh_from_db()
    attempt_end(gang, 1, Ending("failed", "crash", "x"), who="t")
    assert vouch(gang, other) == [{"run": gang.pk, "attempt": 1}]


def test_where_they_meet_is_journalled_for_the_members_alone(gang, first, other):
    led, further = claim(gang, first), claim(gang, other)
    place = {"address": "127.0.0.1", "port": 4711}
    told = {"seq": 1, "time": 1.0, "type": "status", "state": "starting", "phase": "load"}
    gang.refresh_from_db()
    push(gang, [{**told, "data": {"pid": 7, "meeting": place}}])
    for token in (led.lease_token, further.lease_token):
        assert member_of_lease(token).rendezvous == place
    assert member_of_lease("guessed") is None and member_of_lease("") is None
    event = Event.objects.get(run=gang, source="trainer")
    assert event.data["data"] == {"pid": 7}


@pytest.mark.parametrize(
    "told",
    [
        {"address": "127.0.0.1", "port": 0},
        {"address": "127.0.0.1", "port": True},
        {"address": "", "port": 4711},
        {"address": "x" * 256, "port": 4711},
        {"port": 4711},
        "127.0.0.1:4711",
    ],
)
def test_a_place_that_is_none_is_not_noted(gang, first, told):
    claim(gang, first)
    gang.refresh_from_db()
    line = {"seq": 1, "time": 1.0, "type": "status", "state": "starting", "phase": "load"}
    push(gang, [{**line, "data": {"meeting": told}}])
    assert Attempt.objects.get().rendezvous == {}


def test_what_it_left_on_every_machine_is_removed_with_it(gang, pair, first, other, ada):
    Node.objects.update(local=False)
    claim(gang, first)
    claim(gang, other)
    gang.refresh_from_db()
    attempt_end(gang, 1, Ending("finished", "finished", ""), who="t")
    run_delete(run_id=gang.pk, user=ada)
    assert {removal.node for removal in Removal.objects.exclude(node=None)} == set(pair)


def test_gpus_of_a_part_that_still_ends_are_not_given_away(joined, launch):
    gib = 2**30
    assert [joined(name, gpus=[{"index": 0, "memory": gib}]) for name in ("n1", "n2")]
    run = launch(resources={"nodes": 2, "gpus": 1})
    schedule()
    run.refresh_from_db()
    assert [Attempt.objects.get().gpus, Member.objects.get().gpus] == [[0], [0]]
    member = Member.objects.get().node
    claim(run, run.node)
    order = claim(run, member)
    assert order.gpus == [0] and order.processes == 1
    run.refresh_from_db()
    attempt_end(run, 1, Ending("failed", "crash", "x"), who="t")
    member.refresh_from_db()
    member.inventory["gpus_of"] = {run.pk: [0]}
    member.save()
    assert holds(list(Node.objects.all()), []) == {(member.pk, 1)}
