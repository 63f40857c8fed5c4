"""A store of objects: what goes in comes back, and what fails says what to change. S3 is a real server."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from orchestrator.artifacts.store import Store, StoredFile, StoreError
from tests.chaos.brokers import free_port

BYTES = os.urandom(70_000)


@pytest.fixture(params=["s3", "file"])
def store(request, tmp_path) -> Store:
    """One behind S3, and one in a folder that machines share."""
    if request.param == "s3":
        return Store(request.getfixturevalue("s3").bucket())
    (tmp_path / "a shared disk").mkdir()
    return Store((tmp_path / "a shared disk").as_uri())


@pytest.fixture
def file(tmp_path):
    found = tmp_path / "weights"
    found.write_bytes(BYTES)
    return found


def test_objects_come_back_as_they_went(store, file):
    store.probe()
    store.put(file, "checkpoints/r/5-abc/model")
    store.put(file, "checkpoints/r/5-abc/trainer/state")
    store.put(file, "checkpoints/r/6-abc/model")
    assert store.sizes("checkpoints/r/5-abc") == {"model": 70_000, "trainer/state": 70_000}
    assert sorted(store.folders("checkpoints/r")) == ["5-abc", "6-abc"]
    key = "checkpoints/r/5-abc/model"
    assert store.size(key) == 70_000
    assert store.sha256(key) == hashlib.sha256(BYTES).hexdigest()
    assert b"".join(store.pieces(key, 1000, 69_000)) == BYTES[1000:69_000]
    assert store.read(key, 70_000) == BYTES and store.read(key, 69_999) is None
    assert StoredFile(store, key, 70_000).name == "model"
    # Another process wrote in between: nothing is remembered.
    Store(store.url).put(file.with_name("weights"), "checkpoints/r/7-abc/model")
    assert sorted(store.folders("checkpoints/r")) == ["5-abc", "6-abc", "7-abc"]
    store.remove("checkpoints/r/5-abc")
    assert store.sizes("checkpoints/r/5-abc") == {} and store.size(key) is None
    assert sorted(store.folders("checkpoints/r")) == ["6-abc", "7-abc"]


def test_what_is_not_there_is_no_failure(store):
    store.probe()
    assert store.size("a/b") is None and store.sha256("a/b") is None
    assert store.read("a/b", 10) is None and store.sizes("a") == {} and store.folders("a") == []
    store.remove("a")


def test_an_object_is_replaced_whole(store, file):
    store.probe()
    store.put(file, "a/b")
    file.write_bytes(b"new")
    store.put(file, "a/b")
    assert store.read("a/b", 10) == b"new" and store.sizes("a") == {"b": 3}


def refused(store: Store, code: str, words: str) -> None:
    """Check that the store is said to be out of use in these words, without a secret in them."""
    with pytest.raises(StoreError) as refusal:
        store.probe()
    text = str(refusal.value)
    assert refusal.value.code == code and words in text, text
    assert text.startswith(f"ANNEAL_ARTIFACTS_URL: {store.url}") or store.url in text
    assert "secret-of-the-tests" not in text and "key-of-the-tests" not in text


def test_a_missing_bucket_is_named(s3, file):
    store = Store("s3://no-such-bucket/x")
    refused(store, "missing", "make the bucket")
    with pytest.raises(StoreError, match="make the bucket"):
        store.put(file, "a/b")


def test_wrong_credentials_are_said(s3_otherwise):
    store = Store(s3_otherwise.bucket())
    with s3_otherwise.strict():
        refused(store, "credentials", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    store.probe()


def test_no_credentials_are_said(s3_otherwise, monkeypatch):
    url = s3_otherwise.bucket()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with s3_otherwise.strict():
        refused(Store(url), "credentials", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")


def test_a_store_that_does_not_answer_is_said_within_seconds(s3_otherwise, monkeypatch):
    url = s3_otherwise.bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    refused(Store(url), "unreachable", "AWS_ENDPOINT_URL")


def test_a_shared_folder_that_is_not_mounted_never_becomes_one_of_this_disk(tmp_path, file):
    store = Store((tmp_path / "mnt" / "shared").as_uri())
    refused(store, "missing", "mount the folder")
    with pytest.raises(StoreError, match="mount the folder"):
        store.put(file, "a/b")
    assert not (tmp_path / "mnt").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk that can be filled")
def test_a_full_disk_is_said_and_leaves_no_object(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "anneal", str(disk)], check=True)
    try:
        large = tmp_path / "large"
        large.write_bytes(b"x" * 200_000)
        store = Store(disk.as_uri())
        with pytest.raises(StoreError, match=r"is full \(OSError\); free some room") as refusal:
            store.put(large, "a/b")
        assert refusal.value.code == "full" and store.sizes("a") == {}
    finally:
        subprocess.run(["umount", str(disk)], check=True)
