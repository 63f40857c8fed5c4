"""Which machines reach each other, and what people are shown of a gang's."""

from __future__ import annotations

import pytest

from orchestrator.models import Attempt, Member, Node
from orchestrator.selectors.members import machines_of, network_of, rendezvous_of
from orchestrator.selectors.node_cards import node_cards
from orchestrator.selectors.runs import run_shape
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from tests.orchestrator.services.conftest import joined, launch, messages

__all__ = ["joined", "launch", "messages"]


@pytest.fixture
def gang(joined, launch):
    for name in ("n1", "n2"):
        joined(name)
    run = launch(resources={"nodes": 2})
    assert schedule() == 1
    run.refresh_from_db()
    return run


@pytest.mark.parametrize(
    ("inventory", "network"),
    [
        ({}, ""),
        ({"address": "", "host": "a"}, ""),
        ({"address": 7}, ""),
        ({"address": "127.0.0.1", "host": "a"}, "host a"),
        ({"address": "192.0.2.7", "host": "a"}, "network"),
    ],
)
def test_within_what_a_machine_is_reached(inventory, network):
    assert network_of(Node(inventory=inventory)) == network


@pytest.mark.parametrize(
    ("others", "starts"),
    [
        ({"host": "box"}, True),
        ({"host": "another"}, False),
        ({"address": "192.0.2.7"}, False),
        ({"address": ""}, False),
    ],
    ids=["the same machine", "two loopbacks", "loopback and network", "no address"],
)
def test_only_machines_that_reach_each_other_make_a_gang(joined, launch, others, starts):
    joined("n1")
    joined("n2", **others)
    run = launch(resources={"nodes": 2})
    assert schedule() == int(starts)
    run.refresh_from_db()
    if not starts:
        assert run.reason.startswith("Needs 2 machines at the same time that reach each other")
    if others == {"address": ""}:
        assert (
            "n2 has no address for other machines: start it with ANNEAL_NODE_ADDRESS" in run.reason
        )


def test_the_run_and_the_cards_show_every_machine(gang):
    names = [gang.node.name, Member.objects.get().node.name]
    assert machines_of(gang) == names
    assert run_shape(gang)["nodes"] == names and run_shape(gang)["node"] == names[0]
    for card in node_cards():
        (held,) = card.runs
        assert held["run"] == gang and held["machines"] == names
        assert (card.busy, card.free) == (1, 0)


def test_where_they_meet_is_told_while_the_attempt_goes_on(gang):
    attempt = Attempt.objects.select_related("run").get()
    assert rendezvous_of(attempt) == {"ready": False, "address": "", "port": 0}
    attempt.rendezvous = {"address": "127.0.0.1", "port": 4711}
    assert rendezvous_of(attempt) == {"ready": True, "address": "127.0.0.1", "port": 4711}
    Member.objects.update(claimed=gang.created)
    gang.process = "claimed"
    attempt_end(gang, 1, Ending("failed", "killed", "x"), who="t")
    assert rendezvous_of(Attempt.objects.select_related("run").get()) is None
