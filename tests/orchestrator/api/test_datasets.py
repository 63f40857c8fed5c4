"""Datasets by REST: upload, look, change, delete, and a download that goes on where it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import AsyncClient, Client

from orchestrator.models import Dataset, Process, Run, State

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.models import Node, User

pytestmark = pytest.mark.django_db(transaction=True)
ROWS = b'{"question": "1+1?", "answer": "2"}\n'


@pytest.fixture(autouse=True)
def place(settings: Any, tmp_path: Path) -> None:
    settings.ANNEAL_DATA_DIR = tmp_path


def upload(client: Client, headers: dict[str, str], content: bytes = ROWS, **more: str) -> Any:
    fields = {**more, "file": SimpleUploadedFile("rows.jsonl", content)}
    return client.post("/api/datasets", fields, headers=headers)


@async_to_sync
async def fetch(dataset_id: str, headers: dict[str, str]) -> tuple[int, bytes]:
    answer = await AsyncClient().get(f"/api/datasets/{dataset_id}/file", headers=headers)
    if not answer.streaming:
        return answer.status_code, answer.content
    return answer.status_code, b"".join([piece async for piece in answer])


def test_upload_look_change_delete(client: Client, ada: User, bearer: Any) -> None:
    mine = bearer(ada, "operate")
    made = upload(client, mine, mapping='{"question": "prompt"}')
    assert made.status_code == 201 and upload(client, mine).status_code == 200
    shape = client.get(made["Location"], headers=mine).json()
    assert shape["preview"] == [{"question": "1+1?", "answer": "2"}]
    assert shape["serves"]["rollouts"]["ok"] and not shape["serves"]["pairs"]["ok"]
    listed = client.get("/api/datasets", headers=mine).json()
    assert (listed["count"], listed["items"][0]["id"]) == (1, shape["id"])
    url, sort = f"/api/datasets/{shape['id']}", "application/json"
    assert client.patch(url, {"name": "n"}, sort, headers=mine).json()["name"] == "n"
    run = Run.objects.create(
        owner=ada, spec={"data": {"eval": [{"source": shape["id"]}]}}, state=State.PAUSED
    )
    assert client.delete(url, headers=mine).status_code == 409
    run.delete()
    assert client.delete(url, headers=mine).status_code == 204


def test_roles(client: Client, ada: User, bob: User, vera: User, bearer: Any) -> None:
    made = upload(client, bearer(ada)).json()
    url = f"/api/datasets/{made['id']}"
    assert upload(client, bearer(vera)).status_code == 403
    assert upload(client, bearer(ada, "read")).status_code == 403
    assert client.delete(url, headers=bearer(bob)).status_code == 403
    assert client.get(url, headers=bearer(vera)).status_code == 200
    assert client.get(url).status_code == 401


def test_problems(client: Client, ada: User, bearer: Any, settings: Any) -> None:
    mine = bearer(ada)
    assert "rows.jsonl:1: not JSON" in upload(client, mine, b"{").json()["detail"]
    assert client.post("/api/datasets", {}, headers=mine).status_code == 422
    assert upload(client, mine, mapping="[]").status_code == 422
    settings.ANNEAL_MAX_UPLOAD_MB = 1
    assert upload(client, mine, b"x" * 2**21).status_code == 413
    assert upload(client, mine, b"x" * (2**20 + 9)).status_code == 413
    assert not Dataset.objects.exists()


def test_nodes_fetch_and_go_on(client: Client, ada: User, node: Node, bearer: Any) -> None:
    made = upload(client, bearer(ada)).json()
    token = {"Authorization": "Bearer node-token"}
    # A node reads what a run with its lease names, and no other data.
    assert fetch(made["id"], token)[0] == 403
    spec = {"data": {"train": [{"source": made["id"]}]}}
    Run.objects.create(name="r", owner=ada, spec=spec, node=node, process=Process.ALIVE)
    assert fetch(made["id"], token) == (200, ROWS)
    assert fetch(made["id"], {**token, "Range": "bytes=5-"}) == (206, ROWS[5:])
    assert fetch(made["id"], {"Authorization": "Bearer wrong"})[0] == 401
