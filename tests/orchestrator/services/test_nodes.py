"""Nodes: they join by token, prove where they are, and vouch for their runs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestrator.models import Attempt, Node, Run
from orchestrator.models.contact import node_alive
from orchestrator.services.node_changes import node_remove
from orchestrator.services.nodes import (
    BrokerUnreachable,
    NodeReplaced,
    local_node_token_ensure,
    node_heartbeat,
    node_invite,
    node_join,
    node_of_token,
)
from orchestrator.services.outcomes import Ending, attempt_end

HAVE = {"cpus": 2, "gpus": []}


@pytest.fixture
def redis(settings):
    settings.BROKER_URL = "redis://broker:6379/0"


def test_an_invited_node_joins_by_its_token(db, redis):
    node, token = node_invite(name="gpu-1", slots=3, labels=["fast"])
    assert not node_alive(node)
    assert node.token_digest not in token
    joined = node_join(token=token, inventory=HAVE)
    assert (joined.name, joined.slots, joined.local, joined.labels) == ("gpu-1", 1, False, ["fast"])
    assert node_alive(joined)
    assert node_join(token=token, inventory=HAVE, slots=4).slots == 4
    with pytest.raises(PermissionError):
        node_join(token="guess", inventory=HAVE)


def test_a_filesystem_broker_takes_only_this_machine(db, settings):
    _, token = node_invite(name="far")
    with pytest.raises(BrokerUnreachable, match="BROKER_URL") as refusal:
        node_join(token=token, inventory=HAVE, proof="guess")
    proof = refusal.value.proof_path.read_text()
    here = node_join(token=token, inventory=HAVE, proof=proof, data_dir="/elsewhere")
    assert here.local is False
    same = node_join(
        token=token, inventory=HAVE, proof=proof, data_dir=str(settings.ANNEAL_DATA_DIR)
    )
    assert same.local is True


def test_a_node_joins_with_the_servers_store_and_with_no_other(db, redis, settings):
    _, token = node_invite(name="far")
    with pytest.raises(ValueError, match="in its own data directory; ANNEAL_ARTIFACTS_URL names"):
        node_join(token=token, inventory=HAVE, artifacts="s3://bucket/x")
    settings.ANNEAL_ARTIFACTS_URL = "s3://bucket/x"
    with pytest.raises(ValueError, match="in s3://bucket/x; ANNEAL_ARTIFACTS_URL names another"):
        node_join(token=token, inventory=HAVE, artifacts="s3://bucket/y")
    assert Node.objects.get().joined is None
    for same_or_none in ("s3://bucket/x", ""):
        assert node_join(token=token, inventory=HAVE, artifacts=same_or_none).joined


@pytest.mark.parametrize("wrong", [{"gpus": 3}, {"gpus": [{"memory": "x"}]}, {"cpus": "many"}])
def test_an_inventory_that_placement_could_not_read_is_refused(joined, redis, wrong):
    node = joined()
    with pytest.raises(ValueError, match="inventory"):
        node_heartbeat(node=node, inventory=wrong, expect_next_in=15)
    with pytest.raises(ValueError, match="inventory"):
        node_join(token="token of n1", inventory=wrong)


def test_the_local_token_is_made_once_and_kept_private(db, tmp_path):
    token = local_node_token_ensure(tmp_path)
    assert local_node_token_ensure(tmp_path) == token
    path = tmp_path / "node.token"
    assert path.stat().st_mode & 0o077 == 0
    assert node_of_token(token).name == "local"
    assert Node.objects.count() == 1


def test_names_are_unique_and_plain(db, redis):
    _, token = node_invite(name="one")
    node_invite(name="two")
    for name in ("two",):
        with pytest.raises(ValueError, match="exists already"):
            node_invite(name=name)
    for name in ("", "a b", "x;rm", "ü", "-a"):
        with pytest.raises(ValueError, match="lower-case"):
            node_invite(name=name)
    with pytest.raises(ValueError, match="Another node"):
        node_join(token=token, inventory=HAVE, name="two")
    assert node_join(token=token, inventory=HAVE, name="three").name == "three"


def test_a_heartbeat_vouches_for_its_runs_and_hears_of_fenced_ones(working, joined):
    run = working()
    past = timezone.now() - timedelta(seconds=40)
    Run.objects.update(last_contact=past)
    here = [{"run": run.pk, "attempt": 1}, {"run": "gone", "attempt": 3}]
    assert node_heartbeat(node=run.node, inventory=HAVE, expect_next_in=15, runs=here) == []
    run.refresh_from_db()
    assert run.last_contact > past
    Run.objects.update(attempt=2, last_contact=past)
    stale = node_heartbeat(node=run.node, inventory=HAVE, expect_next_in=15, runs=here)
    assert stale == [here[0]]
    run.refresh_from_db()
    assert run.last_contact == past
    other = joined("other")
    Run.objects.update(attempt=1)
    node_heartbeat(node=other, inventory=HAVE, expect_next_in=15, runs=here)
    run.refresh_from_db()
    assert run.last_contact == past  # another node's word counts for nothing


def test_what_the_server_gave_up_is_told_to_end_when_its_node_is_back(working):
    run = working()
    here = [{"run": run.pk, "attempt": 1}]
    attempt_end(run, 1, Ending("failed", "node-lost", "no word"), who="server")
    run.refresh_from_db()
    assert run.state == "queued", "no newer attempt has taken over yet"
    beat = {"node": run.node, "inventory": HAVE, "expect_next_in": 15}
    assert node_heartbeat(**beat, runs=here) == here
    Attempt.objects.update(cause="finished")
    assert node_heartbeat(**beat, runs=here) == [], "it ended by itself, and only delivers"


@pytest.mark.parametrize("told", [[1], {"r": 1}, {"r": ["x"]}, {"r": [True]}, "x"])
def test_odd_words_on_gpus_are_refused(joined, told):
    node = joined("n1")
    with pytest.raises(ValueError, match="not one that this server understands"):
        node_heartbeat(node=node, inventory={**HAVE, "gpus_of": told}, expect_next_in=15)


def test_a_break_in_heartbeats_is_remembered(joined):
    node = joined()
    long_ago = timezone.now() - timedelta(hours=1)
    Node.objects.update(heard_since=long_ago)
    node_heartbeat(node=node, inventory=HAVE, expect_next_in=15)
    node.refresh_from_db()
    assert node.heard_since == long_ago
    Node.objects.update(last_seen=timezone.now() - timedelta(seconds=31))
    node_heartbeat(node=node, inventory=HAVE, expect_next_in=15)
    node.refresh_from_db()
    assert node.heard_since > long_ago


def test_the_process_that_joined_last_is_the_node(db, redis):
    _, token = node_invite(name="one")
    first = node_join(token=token, inventory=HAVE)
    second = node_join(token=token, inventory=HAVE)
    node_heartbeat(node=second, inventory=HAVE, expect_next_in=15, instance=second.instance)
    with pytest.raises(NodeReplaced):
        node_heartbeat(node=first, inventory=HAVE, expect_next_in=15, instance=first.instance)


def test_labels_of_the_command_line_come_and_go_with_it(db, redis):
    _, token = node_invite(name="one", labels=["fast", "room=1"])
    first = node_join(token=token, inventory=HAVE, labels=["h200", "room=2"])
    # One value a key: the machine knows better in which room it stands.
    assert (first.labels, first.own_labels) == (["fast", "h200", "room=2"], ["h200", "room=2"])
    second = node_join(token=token, inventory=HAVE, labels=["room=3"])
    assert (second.labels, second.own_labels) == (["fast", "room=3"], ["room=3"])
    assert node_join(token=token, inventory=HAVE).labels == ["fast"]
    with pytest.raises(ValueError, match="labels: 'two words'"):
        node_join(token=token, inventory=HAVE, labels=["two words"])


def test_a_removed_nodes_name_is_free_again(db, redis):
    node, token = node_invite(name="one")
    node_remove(node_id=node.pk)
    again, other = node_invite(name="one")
    assert again.pk != node.pk
    with pytest.raises(PermissionError):
        node_join(token=token, inventory=HAVE)
    assert node_join(token=other, inventory=HAVE).pk == again.pk
