"""A checkpoint goes into a store file by file; whoever is killed goes on, and a wrong byte never counts."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time

import pytest

from orchestrator.artifacts.delivery import checkpoint_put
from orchestrator.artifacts.store import Store
from orchestrator.data_dir import PROJECT_DIR

FILES = {f"model-{number}.safetensors": os.urandom(40_000) for number in range(6)}
FILES |= {"trainer/state.json": b"{}", "empty.json": b""}
KEY = "checkpoints/r/5-abc"


@pytest.fixture
def folder(tmp_path):
    """A checkpoint on this disk."""
    found = tmp_path / "step-5"
    for name, data in FILES.items():
        (found / name).parent.mkdir(parents=True, exist_ok=True)
        (found / name).write_bytes(data)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    (found / "manifest.json").write_text(json.dumps({"files": hashes}))
    return found


@pytest.fixture
def url(s3):
    return s3.bucket()


class Watched(Store):
    """Notes which files are put and which are read back."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.puts: list[str] = []
        self.reads: list[str] = []

    def put(self, file, key):
        self.puts.append(key.removeprefix(f"{KEY}/"))
        super().put(file, key)

    def sha256(self, key):
        self.reads.append(key.removeprefix(f"{KEY}/"))
        return super().sha256(key)


def put(store: Store, folder, note) -> None:
    sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    checkpoint_put(store, folder, key=KEY, sha256=sha256, note=note)


def test_it_arrives_whole_with_its_manifest_last(url, folder, tmp_path):
    store = Watched(url)
    put(store, folder, tmp_path / "note")
    assert store.puts == [*FILES, "manifest.json"] == store.reads
    assert {name: store.read(f"{KEY}/{name}", 1 << 20) for name in FILES} == FILES
    put(store, folder, tmp_path / "note")
    assert len(store.puts) == len(store.reads) == len(FILES) + 1


SENDER = """
import hashlib, sys, time
from pathlib import Path
from orchestrator.artifacts.delivery import checkpoint_put
from orchestrator.artifacts.store import Store

class Slow(Store):
    def sha256(self, key):
        time.sleep(0.25)
        return super().sha256(key)

url, folder, note, key = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
checkpoint_put(Slow(url), folder, key=key, sha256=sha256, note=note)
"""


@pytest.mark.slow
def test_killed_in_the_middle_the_next_process_goes_on_with_the_rest(url, folder, tmp_path):
    note = tmp_path / "note"
    command = [sys.executable, "-c", SENDER, url, str(folder), str(note), KEY]
    child = subprocess.Popen(command, cwd=PROJECT_DIR, env={**os.environ, "PYTHONPATH": "."})
    look, deadline = Store(url), time.monotonic() + 30
    while len(look.sizes(KEY)) < 3 and time.monotonic() < deadline:
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    there, proven = set(look.sizes(KEY)), set(json.loads(note.read_text()))
    assert proven < there and 3 <= len(there) < len(FILES) and "manifest.json" not in there
    store = Watched(url)
    put(store, folder, note)
    assert set(store.puts) == {*FILES, "manifest.json"} - there, "nothing is sent twice"
    assert not proven & set(store.reads), "what was proven is not read again"
    assert there - proven <= set(store.reads), "what was not is"
    assert {name: store.read(f"{KEY}/{name}", 1 << 20) for name in FILES} == FILES


def test_other_bytes_of_the_same_size_are_replaced(url, folder, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"x" * 40_000)
    Store(url).put(wrong, f"{KEY}/model-3.safetensors")
    put(Store(url), folder, tmp_path / "note")
    assert Store(url).read(f"{KEY}/model-3.safetensors", 1 << 20) == FILES["model-3.safetensors"]


def test_a_byte_that_is_lost_on_the_way_is_refused_by_the_files_name(url, folder, tmp_path):
    class Lossy(Store):
        def put(self, file, key):
            if key.endswith("model-2.safetensors"):
                file = tmp_path / "flipped"
                file.write_bytes(FILES["model-2.safetensors"][:-1] + b"?")
            super().put(file, key)

    with pytest.raises(ValueError, match=r"model-2\.safetensors arrived in s3://\S+ with SHA-256"):
        put(Lossy(url), folder, tmp_path / "note")
    there = Store(url).sizes(KEY)
    assert "manifest.json" not in there and "model-2.safetensors" not in there
    put(Store(url), folder, tmp_path / "note")
    assert Store(url).read(f"{KEY}/model-2.safetensors", 1 << 20) == FILES["model-2.safetensors"]


def test_a_file_that_rotted_on_this_disk_is_named_and_not_sent(url, folder, tmp_path):
    (folder / "model-1.safetensors").write_bytes(b"x" * 40_000)
    with pytest.raises(ValueError, match=r"model-1\.safetensors on this machine's disk is not"):
        put(Store(url), folder, tmp_path / "note")
    assert set(Store(url).sizes(KEY)) == {"model-0.safetensors"}


def test_a_file_that_is_gone_from_this_disk_is_told_apart(url, folder, tmp_path):
    (folder / "model-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError):
        put(Store(url), folder, tmp_path / "note")
