"""The people's side of nodes by REST: everybody looks, admins decide."""

from __future__ import annotations

import pytest
from django.utils import timezone

from orchestrator.models import Node, NodeReading, Process, Run
from orchestrator.services.nodes import node_of_token
from tests.orchestrator.api.test_access import assert_problem


def refused(answer, status: int, words: str = "") -> None:
    """Check that an answer is a problem of this status that says so in these words."""
    assert_problem(answer, status)
    assert words in answer.json()["detail"]


@pytest.fixture
def api(client, alma, bearer):
    """Calls as an admin: `api("patch", "/nodes/ID", slots=2)`."""
    token = bearer(alma)

    def call(verb: str, path: str, **body):
        return getattr(client, verb)(
            f"/api{path}", body, content_type="application/json", headers=token
        )

    return call


def test_people_see_nodes_without_secrets(client, node, vera, bearer):
    shape = client.get("/api/nodes", headers=bearer(vera, "read")).json()["items"][0]
    assert (shape["name"], shape["status"], shape["busy"]) == ("n1", "invited", 0)
    assert "token" not in str(shape)
    assert client.get(f"/api/nodes/{node.pk}", headers=bearer(vera, "read")).json() == shape


def test_an_invitation_shows_its_token_this_once(api):
    made = api("post", "/nodes", name="gpu-1", slots=2, labels=["room=2"])
    assert made.status_code == 201
    shape = made.json()
    assert made["Location"] == f"/api/nodes/{shape['id']}"
    assert node_of_token(shape["token"]).name == "gpu-1"
    assert Node.objects.get().token_digest not in shape["token"]
    assert shape["token"] not in api("get", f"/nodes/{shape['id']}").content.decode()
    refused(api("post", "/nodes", name="gpu-1"), 422, "exists already")
    refused(api("post", "/nodes", name="gpu-2", labels=["a b"]), 422, "labels: 'a b'")


def test_admins_change_what_they_name_and_nothing_else(api, node):
    shape = api("patch", f"/nodes/{node.pk}", cordoned=True, labels=["b", "a=1"]).json()
    assert (shape["cordoned"], shape["drained"], shape["labels"]) == (True, False, ["a=1", "b"])
    shape = api("patch", f"/nodes/{node.pk}", drained=True, slots=3).json()
    assert (shape["cordoned"], shape["drained"], shape["slots"]) == (True, True, 3)
    refused(api("patch", f"/nodes/{node.pk}", slots=0), 422)
    refused(api("patch", f"/nodes/{node.pk}", broken=1), 422)
    refused(api("patch", "/nodes/nothing", slots=1), 404)


def test_a_token_is_renewed_and_revoked(api, node):
    token = api("post", f"/nodes/{node.pk}/token").json()["token"]
    assert node_of_token(token) == node and node_of_token("node-token") is None
    assert api("post", f"/nodes/{node.pk}/revoke").json()["status"] == "revoked"
    assert node_of_token(token) is None


def test_a_node_is_removed_once_it_is_empty(api, node, run):
    refusal = api("delete", f"/nodes/{node.pk}")
    refused(refusal, 409, "n1 still runs tiny; drain it and wait until it is empty")
    Run.objects.update(process=Process.EXITED)
    assert api("delete", f"/nodes/{node.pk}").status_code == 204
    assert api("get", "/nodes").json()["count"] == 0
    refused(api("delete", f"/nodes/{node.pk}"), 404)


def test_the_servers_own_node_is_refused_in_words(api, node):
    Node.objects.update(name="local")
    for verb, path in (("delete", ""), ("post", "/token"), ("post", "/revoke")):
        refused(api(verb, f"/nodes/{node.pk}{path}"), 409, "this server's own node")


def test_readings_are_listed(api, node):
    NodeReading.objects.create(node=node, time=timezone.now(), cpu=12.0, power=None)
    found = api("get", f"/nodes/{node.pk}/readings").json()
    assert found["count"] == 1
    assert (found["items"][0]["cpu"], found["items"][0]["power"]) == (12.0, None)


@pytest.mark.parametrize("who", ["vera", "ada"])
def test_nobody_but_an_admin_decides(client, request, bearer, node, who):
    headers = bearer(request.getfixturevalue(who))
    for verb, path in (
        ("post", ""), ("patch", f"/{node.pk}"), ("delete", f"/{node.pk}"),
        ("post", f"/{node.pk}/token"), ("post", f"/{node.pk}/revoke"),
    ):  # fmt: skip
        answer = getattr(client, verb)(
            f"/api/nodes{path}", {}, content_type="application/json", headers=headers
        )
        assert answer.status_code == 403, (verb, path)
    kept = Node.objects.get()
    assert (kept.revoked, kept.removed, kept.token_digest) == (None, None, node.token_digest)
