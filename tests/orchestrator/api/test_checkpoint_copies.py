"""Copies by REST: only the node that saved a checkpoint sends it, and its pieces fit."""

from __future__ import annotations

import hashlib
import json

import pytest

from orchestrator.models import Checkpoint, Event, Node
from orchestrator.services.checkpoint_copies import copies_remove
from orchestrator.services.tokens import digest_of
from tests.orchestrator.api.test_access import assert_problem
from tests.orchestrator.services.conftest import messages  # noqa: F401

WEIGHTS = b"w" * 1000
MANIFEST = json.dumps({"files": {"sub/model": hashlib.sha256(WEIGHTS).hexdigest()}}).encode()


def refused(answer, status: int, words: str = "") -> None:
    """Check that an answer is a problem of this status that says so in these words."""
    assert_problem(answer, status)
    assert words in answer.json()["detail"]


@pytest.fixture
def checkpoint(run):
    found = Checkpoint.objects.create(
        run=run,
        attempt=1,
        step=7,
        path="checkpoints/step-7",
        bytes=len(MANIFEST) + len(WEIGHTS),
        sha256=hashlib.sha256(MANIFEST).hexdigest(),
    )
    yield found
    copies_remove(run.pk)


@pytest.fixture
def put(client, checkpoint):
    def send(name: str, data: bytes, span: str, token: str = "node-token"):
        return client.put(
            f"/api/checkpoints/{checkpoint.pk}/copy/{name}",
            data,
            content_type="application/octet-stream",
            headers={"Authorization": f"Bearer {token}", "Content-Range": span},
        )

    return send


def status(client, checkpoint, token: str = "node-token"):
    headers = {"Authorization": f"Bearer {token}"}
    return client.get(f"/api/checkpoints/{checkpoint.pk}/copy", headers=headers)


def test_a_node_sends_its_checkpoint_in_pieces_and_others_read_it(
    client, checkpoint, put, vera, bearer
):
    files = f"/api/checkpoints/{checkpoint.pk}/files"
    assert client.get(files, headers=bearer(vera)).status_code == 404
    size = len(MANIFEST)
    assert put("manifest.json", MANIFEST, f"bytes 0-{size - 1}/{size}").json()["checked"] is True
    assert put("sub/model", WEIGHTS[:600], "bytes 0-599/1000").json()["have"] == 600
    assert status(client, checkpoint).json()["have"] == {"sub/model": 600}
    again = put("sub/model", WEIGHTS[:600], "bytes 0-599/1000")
    refused(again, 409, "600 bytes are here")
    assert again["Anneal-Have"] == "600"
    last = put("sub/model", WEIGHTS[600:], "bytes 600-999/1000").json()
    assert last == {"stored": True, "checked": True, "have": 1000}
    assert status(client, checkpoint).json()["stored"] is True
    found = client.get(files, headers=bearer(vera)).json()
    assert found == {"sub/model": hashlib.sha256(WEIGHTS).hexdigest()}


@pytest.mark.parametrize(
    "span",
    ["", "bytes 0-9/10", "bytes 5-3/1000", "bytes */1000", "bytes 0-999", "bytes -1-2/3"],
)
def test_a_piece_that_does_not_fit_its_range_is_refused(put, span):
    refused(put("manifest.json", WEIGHTS, span), 422, "Content-Range")


def test_another_nodes_token_and_peoples_get_nowhere(client, checkpoint, put, alma, bearer):
    Node.objects.create(name="n2", token_digest=digest_of("other-token"))
    admin = bearer(alma)["Authorization"].removeprefix("Bearer ")
    for token, code in (("other-token", 403), (admin, 401), ("guess", 401)):
        assert put("manifest.json", b"x", "bytes 0-0/1", token).status_code == code
        assert status(client, checkpoint, token).status_code == code
        lost = client.post(
            f"/api/checkpoints/{checkpoint.pk}/lost",
            {"sha256": checkpoint.sha256},
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )
        assert lost.status_code == code
        for verb, more in (("sent", {}), ("waits", {"message": "no"})):
            said = client.post(
                f"/api/checkpoints/{checkpoint.pk}/{verb}",
                {"sha256": checkpoint.sha256, **more},
                content_type="application/json",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert said.status_code == code
    assert not Event.objects.filter(data__code="artifacts").exists()
    checkpoint.refresh_from_db()
    assert checkpoint.deleted is None


def test_files_that_are_gone_are_said_to_be(client, checkpoint):
    answer = client.post(
        f"/api/checkpoints/{checkpoint.pk}/lost",
        {"sha256": checkpoint.sha256},
        content_type="application/json",
        headers={"Authorization": "Bearer node-token"},
    )
    assert answer.json() == {"applied": True}
    checkpoint.refresh_from_db()
    assert checkpoint.deleted is not None


def test_a_node_reads_the_files_of_its_own_runs_only(client, checkpoint, put):
    Node.objects.create(name="n2", token_digest=digest_of("other-token"))
    size = len(MANIFEST)
    put("manifest.json", MANIFEST, f"bytes 0-{size - 1}/{size}")
    put("sub/model", WEIGHTS, "bytes 0-999/1000")
    for token, code in (("node-token", 200), ("other-token", 403)):
        for path in ("files", "files/sub/model"):
            answer = client.get(
                f"/api/checkpoints/{checkpoint.pk}/{path}",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.status_code == code, (token, path)


def test_a_node_says_what_is_in_the_store_and_what_waits(
    client,
    checkpoint,
    messages,  # noqa: F811
    vera,
    bearer,
):
    def say(verb: str, **body: str) -> None:
        url = f"/api/checkpoints/{checkpoint.pk}/{verb}"
        headers = {"Authorization": "Bearer node-token"}
        answer = client.post(url, body, content_type="application/json", headers=headers)
        assert answer.json() == {"applied": True}

    say("sent", sha256=checkpoint.sha256)
    assert messages == [("checkpoint_sent", [checkpoint.pk, checkpoint.sha256], "control")]
    say("waits", sha256="another", message="old news")
    say("waits", sha256=checkpoint.sha256, message="ANNEAL_ARTIFACTS_URL: <b>away</b>")
    path = f"/api/runs/{checkpoint.run_id}/events"
    events = client.get(path, headers=bearer(vera)).json()["items"]
    (said,) = [event for event in events if event["type"] == "alert"]
    assert "<b>away</b>" in json.dumps(said)
