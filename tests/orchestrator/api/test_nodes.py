"""The nodes' side of REST: by node token only."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from orchestrator.models import Attempt, Node, Process, Run
from orchestrator.services.nodes import node_invite
from orchestrator.services.tokens import lease_check


@pytest.fixture
def invited(db):
    return node_invite(name="gpu-1")


def headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def post(client, path: str, token: str, **body):
    return client.post(f"/api{path}", body, content_type="application/json", headers=headers(token))


def joined(client, token: str) -> dict:
    refusal = post(client, "/nodes/join", token)
    assert refusal.status_code == 409 and "BROKER_URL" in refusal.json()["detail"]
    with open(refusal.headers["Anneal-Proof"]) as file:
        answer = post(client, "/nodes/join", token, proof=file.read(), slots=2)
    assert answer.status_code == 200, answer.content
    return answer.json()


def test_a_node_joins_claims_and_speaks(client, invited, ada):
    node, token = invited
    welcome = joined(client, token)
    assert (welcome["name"], welcome["slots"]) == ("gpu-1", 2)
    assert welcome["broker"]["url"].startswith("filesystem:")
    run = Run.objects.create(
        name="r", owner=ada, spec={}, attempt=1, node=node, process=Process.DISPATCHED
    )
    Attempt.objects.create(run=run, number=1, node=node)
    order = post(client, "/claims", token, run=run.pk, attempt=1)
    assert order.status_code == 200 and order.json()["lease_token"]
    assert post(client, "/claims", token, run=run.pk, attempt=1).status_code == 409
    beat = {"expect_next_in": 15, "instance": welcome["instance"], "inventory": {"cpus": 2}}
    told = post(client, "/heartbeats", token, runs=[{"run": run.pk, "attempt": 1}], **beat)
    assert told.json() == {"fenced": [], "bring": [], "remove": [], "drop": []}
    failed = post(client, "/claims/fail", token, run=run.pk, attempt=1, message="no disk")
    assert failed.json() == {"applied": True}
    run.refresh_from_db()
    assert (run.state, run.reason) == ("failed", "no disk")


def test_a_process_that_was_replaced_is_turned_away(client, invited):
    _, token = invited
    first = joined(client, token)
    joined(client, token)
    beat = post(client, "/heartbeats", token, expect_next_in=15, instance=first["instance"])
    assert beat.status_code == 410 and "own token" in beat.json()["detail"]


@pytest.mark.parametrize("path", ["/nodes/join", "/claims", "/claims/fail", "/heartbeats"])
def test_nobody_but_a_node_gets_in(client, invited, bearer, alma, path):
    body = {"run": "r", "attempt": 1, "message": "", "expect_next_in": 5}
    for token in ("", "guess", bearer(alma)["Authorization"].removeprefix("Bearer ")):
        assert post(client, path, token, **body).status_code == 401
    client.force_login(alma)
    assert client.post(f"/api{path}", body, content_type="application/json").status_code == 401
    Node.objects.update(revoked="2026-01-01T00:00Z")
    assert post(client, path, invited[1], **body).status_code == 401


def test_a_node_token_opens_nothing_else(client, invited):
    for path in ("/runs", "/nodes", "/catalog"):
        assert client.get(f"/api{path}", headers=headers(invited[1])).status_code == 401


def test_a_node_token_reaches_no_other_nodes_lease(client, invited, ada):
    """Of two nodes, the second tries everything on the run that the first one holds."""
    node, token = invited
    other, others = node_invite(name="gpu-2")
    joined(client, token)
    away = joined(client, others)
    run = Run.objects.create(
        name="r", owner=ada, spec={}, attempt=1, node=node, process=Process.DISPATCHED
    )
    Attempt.objects.create(run=run, number=1, node=node)
    stolen = {"run": run.pk, "attempt": 1}
    assert post(client, "/claims", others, **stolen).status_code == 409
    lease = post(client, "/claims", token, **stolen).json()["lease_token"]
    past = Run.objects.get().last_contact
    assert post(client, "/claims", others, **stolen).status_code == 409
    failed = post(client, "/claims/fail", others, **stolen, message="no disk")
    assert failed.json() == {"applied": False}
    beat = {"expect_next_in": 15, "instance": away["instance"]}
    assert post(client, "/heartbeats", others, runs=[stolen], **beat).status_code == 200
    run.refresh_from_db()
    assert (run.process, run.last_contact, run.node) == (Process.CLAIMED, past, node)
    # Nor is the node's token a lease, or the lease a node's token.
    assert lease_check(token) is None and lease_check(others) is None
    assert post(client, "/heartbeats", lease, **beat).status_code == 401
    assert other.pk != node.pk


def test_the_command_prints_a_token_that_works(client, db, capsys):
    call_command("node_token", "far", "--label", "fast")
    token = capsys.readouterr().out.strip()
    assert joined(client, token)["name"] == "far"
    with pytest.raises(CommandError, match="exists already"):
        call_command("node_token", "far")
