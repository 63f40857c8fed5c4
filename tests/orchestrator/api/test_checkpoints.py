"""Checkpoints by REST: resumable downloads that never leave their folder."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.test import AsyncClient, Client

from orchestrator.api import archive as archive_module
from orchestrator.artifacts.store import Store
from orchestrator.models import Checkpoint
from orchestrator.selectors.inputs import store_key
from orchestrator.services.store_copies import copy_confirm
from orchestrator.services.store_keeper import look, state_write
from tests.orchestrator.api.test_access import assert_problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from orchestrator.models import Node, Run, User
    from tests.s3 import S3

pytestmark = pytest.mark.django_db(transaction=True)

WEIGHTS = bytes(range(256)) * 5000  # more than one piece


@pytest.fixture
def checkpoint(run: Run, tmp_path: Path) -> Iterator[Checkpoint]:
    folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk / "checkpoints" / "step-5"
    (folder / "trainer").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "trainer" / "state.json").write_text("{}")
    (folder / "secret.txt").write_text("not in the manifest")
    (tmp_path / "outside.txt").write_text("outside")
    (folder / "link.txt").symlink_to(tmp_path / "outside.txt")
    names = ["model.safetensors", "trainer/state.json", "link.txt"]
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    manifest = json.dumps({"attempt": 1, "step": 5, "files": hashes})
    (folder / "manifest.json").write_text(manifest)
    yield Checkpoint.objects.create(
        run=run,
        attempt=1,
        step=5,
        path="checkpoints/step-5",
        sha256=hashlib.sha256(manifest.encode()).hexdigest(),
    )


@pytest.fixture
def fetch(checkpoint: Checkpoint, vera: User, bearer: Any) -> Any:
    token = bearer(vera, "read")

    @async_to_sync
    async def get(name: str, **headers: str) -> tuple[Any, bytes]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"/api/checkpoints/{checkpoint.pk}/files/{name}"
        response = await AsyncClient().get(url, headers={**token, **sent})
        if response.streaming:
            return response, b"".join([piece async for piece in response])
        return response, response.content

    return get


def test_checkpoints_are_listed_and_read(
    client: Client, checkpoint: Checkpoint, vera: User, bearer: Any
) -> None:
    headers = bearer(vera, "read")
    found = client.get(f"/api/runs/{checkpoint.run_id}/checkpoints", headers=headers).json()
    assert [item["step"] for item in found["items"]] == [5]
    one = client.get(f"/api/checkpoints/{checkpoint.pk}", headers=headers).json()
    assert (one["id"], one["run"]) == (checkpoint.pk, checkpoint.run_id)
    files = client.get(f"/api/checkpoints/{checkpoint.pk}/files", headers=headers).json()
    assert files["model.safetensors"] == hashlib.sha256(WEIGHTS).hexdigest()


def test_a_file_comes_whole(fetch: Any) -> None:
    response, data = fetch("model.safetensors")
    assert (response.status_code, data == WEIGHTS) == (200, True)
    assert response["ETag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert int(response["Content-Length"]) == len(WEIGHTS)
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "attachment" in response["Content-Disposition"]
    assert fetch("trainer/state.json")[1] == b"{}"


def test_a_broken_download_goes_on(fetch: Any) -> None:
    response, rest = fetch("model.safetensors", Range="bytes=1000000-")
    assert response.status_code == 206
    assert response["Content-Range"] == f"bytes 1000000-{len(WEIGHTS) - 1}/{len(WEIGHTS)}"
    assert rest == WEIGHTS[1000000:]
    assert fetch("model.safetensors", Range="bytes=10-19")[1] == WEIGHTS[10:20]
    assert fetch("model.safetensors", Range="bytes=-7")[1] == WEIGHTS[-7:]
    assert fetch("model.safetensors", Range="bytes=9999999-")[0].status_code == 416
    assert fetch("model.safetensors", Range="bytes=0-", If_Range='"other"')[0].status_code == 200
    assert fetch("model.safetensors", Range="lines=1-2")[0].status_code == 200


def test_an_unchanged_file_is_not_sent_again(fetch: Any) -> None:
    tag = fetch("model.safetensors")[0]["ETag"]
    assert fetch("model.safetensors", If_None_Match=tag)[0].status_code == 304


@pytest.mark.parametrize(
    "name",
    [
        "../step-5/model.safetensors",
        "..%2f..%2f..%2fsecret_key",
        "%2e%2e/%2e%2e/manifest.json",
        "trainer/../../../spec.json",
        "/etc/passwd",
        "//etc/passwd",
        "secret.txt",
        "link.txt",
        "model.safetensors%00",
        "trainer",
        "..",
        "%5c..%5cmanifest.json",
    ],
)
def test_no_name_leads_out_of_the_checkpoint(fetch: Any, name: str) -> None:
    assert fetch(name)[0].status_code == 404


def test_files_that_are_gone_are_not_found(fetch: Any, checkpoint: Checkpoint) -> None:
    Checkpoint.objects.update(deleted="2026-01-01T00:00:00Z")
    body = assert_problem(fetch("model.safetensors")[0], 404)
    assert "removed" in body["detail"]


def test_a_node_may_fetch_files(client: Client, checkpoint: Checkpoint, node: Node) -> None:
    url = f"/api/checkpoints/{checkpoint.pk}/files"
    headers = {"Authorization": "Bearer node-token"}
    assert client.get(url, headers=headers).status_code == 200
    assert_problem(client.get(f"/api/checkpoints/{checkpoint.pk}", headers=headers), 401)
    assert_problem(client.get(url), 401)


@pytest.fixture
def stored(checkpoint: Checkpoint, s3: S3, settings: Any, tmp_path: Path) -> Iterator[Store]:
    """The checkpoint lies in a store behind S3 and no more on this disk."""
    settings.ANNEAL_ARTIFACTS_URL = s3.bucket()
    store = Store(settings.ANNEAL_ARTIFACTS_URL)
    folder = settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in (*manifest["files"], "manifest.json"):
        store.put(folder / name, f"{store_key(checkpoint)}/{name}")
    assert look(store) and copy_confirm(store, checkpoint.pk, checkpoint.sha256)
    checkpoint.refresh_from_db()
    shutil.rmtree(folder)
    yield store
    shutil.rmtree(settings.ANNEAL_DATA_DIR / "artifacts")


def test_a_checkpoint_in_the_store_is_read_like_one_that_is_here(
    fetch: Any, stored: Store, client: Client, checkpoint: Checkpoint, vera: User
) -> None:
    response, data = fetch("model.safetensors")
    assert (response.status_code, data == WEIGHTS) == (200, True)
    assert response["ETag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    response, data = fetch("model.safetensors", Range="bytes=1000-1999")
    assert (response.status_code, data == WEIGHTS[1000:2000]) == (206, True)
    assert fetch("manifest.json")[0].status_code == 200
    assert_problem(fetch("secret.txt")[0], 404)
    client.force_login(vera)
    page = client.get(f"/checkpoints/{checkpoint.pk}/").content.decode()
    assert f"{stored.url}/{store_key(checkpoint)}" in page and "model.safetensors" in page
    assert "from_pretrained" not in page


def test_while_the_store_is_away_a_download_says_so(
    fetch: Any, stored: Store, client: Client, checkpoint: Checkpoint, vera: User, bearer: Any
) -> None:
    state_write(stored, "ANNEAL_ARTIFACTS_URL: it is away")
    response, _ = fetch("model.safetensors")
    assert_problem(response, 503)
    assert "it is away" in response.json()["detail"]
    path = f"/api/checkpoints/{checkpoint.pk}/files"
    assert client.get(path, headers=bearer(vera)).status_code == 200, "what it holds is known here"


# --- the registry -------------------------------------------------------------------------------


@pytest.fixture
def ask(client: Client, bearer: Any) -> Any:
    def send(method: str, path: str, user: User, body: Any = None, scope: str = "admin") -> Any:
        return client.generic(
            method, f"/api{path}", json.dumps(body or {}), "application/json",
            headers=bearer(user, scope),
        )  # fmt: skip

    return send


def test_all_checkpoints_are_listed_and_filtered(
    ask: Any, checkpoint: Checkpoint, run: Run, ada: User
) -> None:
    Checkpoint.objects.create(
        run=run, attempt=1, step=9, path="y", sha256="9" * 64, metrics={"eval/reward": 0.9},
        stage="approved", tags=["good"], pinned=True, final=True,
    )  # fmt: skip
    Checkpoint.objects.create(
        run=run, attempt=1, step=2, path="z", sha256="2" * 64, deleted="2026-01-01T00:00Z"
    )
    for query, steps in (
        ("", {5, 9}),
        ("?deleted=true", {2, 5, 9}),
        ("?stage=approved", {9}),
        ("?stage=", {5}),
        ("?tag=good", {9}),
        ("?pinned=false", {5}),
        ("?final=true", {9}),
        (f"?run={run.pk}&per_page=1", {9}),
        ("?run=nothing", set()),
        ("?q=eval/reward%20%3E%200.8", {9}),
        ("?q=good", {9}),
    ):
        found = ask("GET", f"/checkpoints{query}", ada).json()
        assert {item["step"] for item in found["items"]} == steps, query
    assert_problem(ask("GET", "/checkpoints?stage=best", ada), 422)


def test_a_checkpoint_is_staged_and_what_was_done_is_told(
    ask: Any, checkpoint: Checkpoint, ada: User, bob: User, alma: User
) -> None:
    path = f"/checkpoints/{checkpoint.pk}"
    found = ask("PATCH", path, ada, {"stage": "approved", "tags": ["x"], "note": "n"}).json()
    assert (found["stage"], found["stage_by"], found["tags"]) == ("approved", "ada", ["x"])
    assert ask("PATCH", path, alma, {"pinned": True}).json()["note"] == "n"
    assert_problem(ask("PATCH", path, bob, {"pinned": False}), 403)
    assert_problem(ask("PATCH", path, ada, {"pinned": False}, scope="read"), 403)
    assert_problem(ask("PATCH", path, ada, {"stage": "best"}), 422)
    assert_problem(ask("PATCH", path, ada, {"step": 3}), 422)
    changes = ask("GET", f"{path}/changes", bob).json()
    assert (changes[0]["what"], changes[0]["by"], changes[0]["new"]) == ("pinned", "alma", True)
    assert {(one["what"], one["by"]) for one in changes[1:]} == {
        *(("note", "ada"), ("tags", "ada"), ("stage", "ada"))
    }
    body = assert_problem(ask("DELETE", path, ada), 409)
    assert "It is pinned." in body["detail"]


def test_a_checkpoint_is_deleted_unless_its_run_goes_on(
    ask: Any, checkpoint: Checkpoint, run: Run, ada: User, bob: User
) -> None:
    path = f"/checkpoints/{checkpoint.pk}"
    assert "its run has not ended" in assert_problem(ask("DELETE", path, ada), 409)["detail"]
    type(run).objects.update(state="finished", process="exited", cause="finished")
    assert_problem(ask("DELETE", path, bob), 403)
    response = ask("DELETE", path, ada)
    assert response.status_code == 202
    assert (response.json()["deleted_by"], response.json()["leaves"]) == ("ada", 2)
    assert ask("GET", "/checkpoints", ada).json()["count"] == 0
    assert_problem(ask("DELETE", "/checkpoints/nothing", ada), 404)


def test_lineage_is_a_tree(ask: Any, checkpoint: Checkpoint, run: Run, vera: User) -> None:
    found = ask("GET", f"/checkpoints/{checkpoint.pk}/lineage", vera, scope="read").json()
    assert (found["kind"], found["id"], found["children"]) == ("checkpoint", checkpoint.pk, [])
    assert [one["relation"] for one in found["parents"]] == ["start model"]


def tar_of(checkpoint: Checkpoint, headers: dict[str, str]) -> tuple[Any, bytes]:
    @async_to_sync
    async def get() -> tuple[Any, bytes]:
        url = f"/api/checkpoints/{checkpoint.pk}/tar"
        response = await AsyncClient().get(url, headers=headers)
        if response.streaming:
            return response, b"".join([piece async for piece in response])
        return response, response.content

    return get()


def test_all_files_come_as_one_tar_of_the_promised_length(
    checkpoint: Checkpoint, vera: User, bearer: Any, tmp_path: Path
) -> None:
    folder = settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["link.txt"]  # it leads out of the folder
    (folder / "manifest.json").write_text(json.dumps(manifest))
    sha256 = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    Checkpoint.objects.update(sha256=sha256)
    response, data = tar_of(checkpoint, bearer(vera, "read"))
    assert response.status_code == 200 and int(response["Content-Length"]) == len(data)
    name = f"checkpoint-{checkpoint.pk}-step-5"
    assert f'filename="{name}.tar"' in response["Content-Disposition"]
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        found = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    assert found == {
        f"{name}/model.safetensors": WEIGHTS,
        f"{name}/trainer/state.json": b"{}",
        f"{name}/manifest.json": json.dumps(manifest).encode(),
    }
    (tmp_path / "all.tar").write_bytes(data)
    checked = subprocess.run(["tar", "-tf", tmp_path / "all.tar"], check=True, capture_output=True)
    assert checked.stdout.decode().split() == list(found)


def test_a_tar_with_a_file_that_is_missing_or_leads_out_is_refused(
    checkpoint: Checkpoint, vera: User, bearer: Any
) -> None:
    response, _ = tar_of(checkpoint, bearer(vera, "read"))
    assert "link.txt is missing" in assert_problem(response, 409)["detail"]
    assert_problem(tar_of(checkpoint, {})[0], 401)
    assert_problem(tar_of(checkpoint, {"Authorization": "Bearer node-token"})[0], 401)


def test_a_tar_whose_file_shrinks_ends_short(
    checkpoint: Checkpoint, vera: User, bearer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = settings.ANNEAL_DATA_DIR / "runs" / checkpoint.run_id / checkpoint.path
    member = archive_module.Member("model.safetensors", folder / "model.safetensors", 2_000_000)
    answer = archive_module.tar_answer("x", [member], modified=0)

    @async_to_sync
    async def read() -> int:
        return sum([len(piece) async for piece in answer])

    with pytest.raises(OSError, match="ended after 1280000 of 2000000 bytes"):
        read()


def test_a_node_reports_what_it_has_freed(
    client: Client, checkpoint: Checkpoint, node: Node
) -> None:
    Checkpoint.objects.update(leaves=[node.pk], deleted_by="ada")
    url, body = f"/api/checkpoints/{checkpoint.pk}/dropped", {"sha256": checkpoint.sha256}
    for token, status in (("node-token", 200), ("other", 401)):
        response = client.post(
            url, json.dumps({**body, "bytes": 4096}), "application/json",
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        assert response.status_code == status
    found = Checkpoint.objects.get()
    assert (found.leaves, found.freed) == ([], 4096)


def test_a_tar_comes_out_of_the_store(
    stored: Store, checkpoint: Checkpoint, vera: User, bearer: Any
) -> None:
    response, data = tar_of(checkpoint, bearer(vera))
    assert response.status_code == 200 and int(response["Content-Length"]) == len(data)
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        assert len(archive.getnames()) == 4
    state_write(stored, "ANNEAL_ARTIFACTS_URL: it is away")
    assert_problem(tar_of(checkpoint, bearer(vera))[0], 503)
