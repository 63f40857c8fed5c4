"""A checkpoint comes out of a store verified, goes on where it broke off, and is refused by a file's name."""

from __future__ import annotations

import hashlib
import json
import os
from types import SimpleNamespace

import pytest

from orchestrator.artifacts.store import Store, StoreError
from orchestrator.node import checkpoint_fetch
from orchestrator.node.checkpoint_fetch import Damaged, Sources, is_checkpoint

WEIGHTS = os.urandom(50_000)
KEY = "checkpoints/r/5-abc"


@pytest.fixture
def url(s3):
    return s3.bucket()


@pytest.fixture
def place(url, tmp_path):
    """Put a checkpoint into the store; where it is to be had."""
    hashes = {"sub/model.safetensors": hashlib.sha256(WEIGHTS).hexdigest()}
    manifest = json.dumps({"files": hashes}).encode()
    for name, data in (("sub/model.safetensors", WEIGHTS), ("manifest.json", manifest)):
        object_put(url, tmp_path, name, data)
    sha256 = hashlib.sha256(manifest).hexdigest()
    where = {"checkpoint": "c" * 12, "run": "r", "step": 5, "path": "checkpoints/step-5"}
    return {**where, "sha256": sha256, "key": KEY, "in_store": True}


def object_put(url: str, tmp_path, name: str, data: bytes) -> None:
    file = tmp_path / "object"
    file.write_bytes(data)
    Store(url).put(file, f"{KEY}/{name}")


class NoServer:
    """A server that must not be asked."""

    def download(self, path, target, sha256):
        raise AssertionError(f"the server was asked for {path}")


def test_it_comes_from_the_store_and_not_from_the_server(url, place, tmp_path):
    folder = tmp_path / "here" / "step-5"
    Sources(NoServer(), Store(url)).fetch(place, folder)
    assert is_checkpoint(folder, place["sha256"])
    assert (folder / "sub" / "model.safetensors").read_bytes() == WEIGHTS
    assert [path.name for path in folder.parent.iterdir()] == ["step-5"]


def test_a_wrong_byte_is_refused_with_the_name_of_its_file(url, place, tmp_path):
    object_put(url, tmp_path, "sub/model.safetensors", WEIGHTS[:-1] + b"?")
    folder = tmp_path / "here" / "step-5"
    with pytest.raises(
        Damaged, match=r"step 5 is damaged: sub/model\.safetensors arrived with SHA-256"
    ):
        Sources(NoServer(), Store(url)).fetch(place, folder)
    assert not folder.exists()


def test_a_missing_file_is_named(url, place, tmp_path):
    Store(url).remove(f"{KEY}/sub/model.safetensors")
    with pytest.raises(Damaged, match=r"sub/model\.safetensors is not in s3://"):
        Sources(NoServer(), Store(url)).fetch(place, tmp_path / "step-5")


def test_a_manifest_cannot_lead_out_of_its_folder(url, place, tmp_path):
    manifest = json.dumps({"files": {"../../evil": "0" * 64}}).encode()
    object_put(url, tmp_path, "manifest.json", manifest)
    place["sha256"] = hashlib.sha256(manifest).hexdigest()
    with pytest.raises(Damaged, match="names a file outside it"):
        Sources(NoServer(), Store(url)).fetch(place, tmp_path / "here" / "step-5")


def test_it_waits_for_a_store_that_went_away_and_goes_on_where_it_was(
    url, place, tmp_path, monkeypatch
):
    monkeypatch.setattr(checkpoint_fetch, "STORE_AGAIN", 0.01)
    begun: list[int] = []

    class Shaky(Store):
        """Breaks off once in the middle of the weights."""

        def pieces(self, key, begin, end):
            if not key.endswith("model.safetensors"):
                yield from super().pieces(key, begin, end)
                return
            begun.append(begin)
            if len(begun) == 1:
                yield from super().pieces(key, begin, 20_000)
                raise StoreError("unreachable", "gone")
            yield from super().pieces(key, begin, end)

    folder = tmp_path / "step-5"
    Sources(NoServer(), Shaky(url)).fetch(place, folder)
    assert begun == [0, 20_000]
    assert (folder / "sub" / "model.safetensors").read_bytes() == WEIGHTS


def test_who_is_not_waited_for_any_more_gives_up(url, place, tmp_path, monkeypatch):
    class Away(Store):
        def size(self, key):
            raise StoreError("unreachable", "gone")

    with pytest.raises(StoreError, match="gone"):
        Sources(NoServer(), Away(url), lambda: True).fetch(place, tmp_path / "step-5")
    monkeypatch.setattr(checkpoint_fetch, "STORE_WITHIN", 0.5)
    with pytest.raises(StoreError, match="gone"):
        Sources(NoServer(), Away(url)).fetch(place, tmp_path / "step-5")


@pytest.mark.parametrize(
    "change", [{"in_store": False}, {"key": ""}, {"key": "checkpoints/r/other"}]
)
def test_what_the_store_lacks_comes_from_the_server(url, place, tmp_path, change):
    asked = []

    def download(path, target, sha256):
        asked.append(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('{"files": {}}')

    Sources(SimpleNamespace(download=download), Store(url)).fetch(
        {**place, **change}, tmp_path / "step-5"
    )
    assert asked == [f"/checkpoints/{'c' * 12}/files/manifest.json"]
