"""What people decide about nodes, and what placement makes of it."""

from __future__ import annotations

import pytest

from orchestrator.models import Attempt, Node, Run
from orchestrator.models.contact import node_alive
from orchestrator.selectors.nodes import node_shape, nodes_list
from orchestrator.services.claims import run_claim
from orchestrator.services.node_changes import (
    node_patch,
    node_remove,
    node_revoke,
    node_token_renew,
)
from orchestrator.services.nodes import node_heartbeat, node_of_token
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule


def status(node: Node) -> str:
    return node_shape(Node.objects.get(pk=node.pk))["status"]


def test_people_drain_label_and_revoke(joined, launch):
    node = joined()
    node_patch(node_id=node.pk, drained=True, labels=["b", "a=1"], slots=2)
    launch()
    assert schedule() == 0
    shape = node_shape(Node.objects.get())
    assert (shape["status"], shape["labels"], shape["slots"]) == ("drained", ["a=1", "b"], 2)
    with pytest.raises(ValueError, match="at least one slot"):
        node_patch(node_id=node.pk, slots=0)
    with pytest.raises(ValueError, match="labels: 'a b'"):
        node_patch(node_id=node.pk, labels=["a b"])
    assert node_revoke(node_id=node.pk) is True
    assert node_of_token("token of n1") is None
    assert not node_alive(Node.objects.get())
    assert status(node) == "revoked"


def test_a_draining_node_finishes_and_takes_no_more(working, launch):
    run = working()
    node_patch(node_id=run.node_id, drained=True, slots=2)
    assert status(run.node) == "draining"
    launch("second")
    assert schedule() == 0
    attempt_end(run, 1, Ending("finished", "finished", ""), who="test")
    assert status(run.node) == "drained"


def test_what_a_draining_node_loses_does_not_come_back_to_it(working):
    run = working()
    node_patch(node_id=run.node_id, drained=True)
    attempt_end(run, 1, Ending("failed", "killed", "gone"), who="test")
    assert schedule() == 0
    assert "drained" in Run.objects.get().reason


def test_a_cordoned_node_takes_back_its_own_and_nothing_new(working, launch):
    run = working()
    node_patch(node_id=run.node_id, cordoned=True, slots=2)
    assert status(run.node) == "cordoned"
    second = launch("second")
    attempt_end(run, 1, Ending("failed", "killed", "gone"), who="test")
    assert schedule() == 1
    run.refresh_from_db()
    assert run_claim(node=run.node, run_id=run.pk, attempt=2) is not None
    second.refresh_from_db()
    assert "n1 is cordoned: only runs that worked on it last may return" in second.reason
    node_patch(node_id=run.node_id, cordoned=False)
    assert schedule() == 1


def test_another_token_ends_the_old_one_and_lets_a_revoked_node_return(joined):
    node = joined("far")
    node_revoke(node_id=node.pk)
    same, token = node_token_renew(node_id=node.pk)
    assert (same.pk, same.revoked) == (node.pk, None)
    assert node_of_token(token) == same and node_of_token("token of far") is None
    assert token not in str(node_shape(same)) and same.token_digest not in token


def test_a_node_is_removed_only_when_nothing_runs_on_it(working, joined):
    run = working(name="busy-run")
    with pytest.raises(ValueError, match="n1 still runs busy-run; drain it and wait"):
        node_remove(node_id=run.node_id)
    assert Node.objects.get().removed is None
    attempt_end(run, 1, Ending("finished", "finished", ""), who="test")
    node_remove(node_id=run.node_id)
    assert nodes_list() == [] and node_of_token("token of n1") is None
    # Its history stays.
    assert Attempt.objects.get().node.name == "n1"
    with pytest.raises(ValueError, match="no node"):
        node_patch(node_id=run.node_id, drained=True)


def test_the_servers_own_node_stays(joined):
    node = joined("local")
    for verb in (node_remove, node_revoke, node_token_renew):
        with pytest.raises(ValueError, match="local is this server's own node"):
            verb(node_id=node.pk)


def test_a_removed_node_that_still_speaks_is_unknown(joined):
    node = joined("far")
    node_heartbeat(node=node, inventory={"cpus": 1}, expect_next_in=15)
    node_remove(node_id=node.pk)
    assert node_of_token("token of far") is None
