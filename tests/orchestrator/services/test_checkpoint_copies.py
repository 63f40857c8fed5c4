"""Copies of checkpoints: pieces from nodes, checked by their hashes, whole or not there."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from django.conf import settings

from orchestrator.models import Attempt, Checkpoint, Node, Run
from orchestrator.selectors.reach import is_stored
from orchestrator.services import checkpoint_copies
from orchestrator.services.checkpoint_copies import (
    Busy,
    DiskFull,
    OutOfPlace,
    copies_remove,
    copies_wanted,
    copy_folder,
    copy_lost,
    copy_piece,
    copy_status,
    saved_by,
)
from orchestrator.services.checkpoints import checkpoint_files, checkpoint_folder

FILES = {"model.safetensors": b"weights" * 50, "trainer/state.json": b"{}", "empty": b""}


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest_of(files: dict[str, bytes]) -> bytes:
    return json.dumps({"files": {name: sha(data) for name, data in files.items()}}).encode()


@pytest.fixture
def far(run: Run) -> Node:
    """The run's node keeps a data directory of its own."""
    Node.objects.update(local=False)
    yield Node.objects.get()
    copies_remove(run.pk)


@pytest.fixture
def saved(run: Run, far: Node):
    """Note a checkpoint that the node saved: `saved(step)`."""

    def make(step: int = 10, files: dict[str, bytes] | None = None, attempt: int = 1) -> Checkpoint:
        manifest = manifest_of(files or FILES)
        size = len(manifest) + sum(map(len, (files or FILES).values()))
        fields = {"sha256": sha(manifest), "bytes": size, "path": f"checkpoints/step-{step}"}
        return Checkpoint.objects.create(run=run, attempt=attempt, step=step, **fields)

    return make


def send(checkpoint: Checkpoint, name: str, data: bytes, piece: int = 64) -> dict:
    answer: dict = {}
    for start in range(0, max(1, len(data)), piece):
        part = data[start : start + piece]
        answer = copy_piece(
            checkpoint=checkpoint, name=name, start=start, total=len(data), data=part
        )
    return answer


def send_all(checkpoint: Checkpoint, files: dict[str, bytes] | None = None) -> dict:
    files = files or FILES
    answer = send(checkpoint, "manifest.json", manifest_of(files))
    for name, data in files.items():
        answer = send(checkpoint, name, data)
    checkpoint.refresh_from_db()
    return answer


def test_a_copy_counts_when_its_last_file_is_whole_and_is_served_from_then_on(saved):
    checkpoint = saved()
    with pytest.raises(ValueError, match="lie on n1"):
        checkpoint_folder(checkpoint)
    send(checkpoint, "manifest.json", manifest_of(FILES))
    send(checkpoint, "model.safetensors", FILES["model.safetensors"])
    send(checkpoint, "empty", b"")
    checkpoint.refresh_from_db()
    assert not is_stored(checkpoint) and not copy_folder(checkpoint).exists()
    assert send(checkpoint, "trainer/state.json", b"{}")["stored"] is True
    checkpoint.refresh_from_db()
    assert is_stored(checkpoint)
    folder = checkpoint_folder(checkpoint)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert checkpoint_files(checkpoint) == {name: sha(data) for name, data in FILES.items()}
    # Sending it once more changes nothing.
    assert send(checkpoint, "manifest.json", manifest_of(FILES))["stored"] is True


def test_what_arrived_is_known_after_any_break(saved):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    data = FILES["model.safetensors"]
    copy_piece(checkpoint=checkpoint, name="model.safetensors", start=0, total=350, data=data[:100])
    assert copy_status(checkpoint) == {
        "stored": False,
        "have": {"model.safetensors": 100},
        "checked": ["manifest.json"],
    }
    for wrong in (0, 99, 101):
        with pytest.raises(OutOfPlace) as refusal:
            copy_piece(
                checkpoint=checkpoint, name="model.safetensors", start=wrong, total=350, data=b"x"
            )
        assert refusal.value.have == 100
    rest = copy_piece(
        checkpoint=checkpoint, name="model.safetensors", start=100, total=350, data=data[100:]
    )
    assert rest == {"stored": False, "checked": True, "have": 350}


def test_a_server_that_died_before_the_check_is_asked_again_without_a_byte(saved):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    arriving = copy_folder(checkpoint).with_name(f"{copy_folder(checkpoint).name}.arriving")
    (arriving / "model.safetensors.part").write_bytes(FILES["model.safetensors"])
    answer = copy_piece(
        checkpoint=checkpoint, name="model.safetensors", start=350, total=350, data=b""
    )
    assert answer["checked"] is True


def test_a_server_that_died_after_the_rename_counts_the_copy_at_the_next_word(saved):
    checkpoint = saved()
    send_all(checkpoint)
    Checkpoint.objects.update(stored="")
    assert copies_wanted(Node.objects.get())
    assert send(checkpoint, "manifest.json", manifest_of(FILES))["stored"] is True
    assert copies_wanted(Node.objects.get()) == []


def test_a_wrong_hash_is_refused_and_the_file_begins_anew(saved):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    with pytest.raises(ValueError, match=r"model\.safetensors arrived with SHA-256"):
        send(checkpoint, "model.safetensors", b"w" * 350)
    assert copy_status(checkpoint)["have"] == {}
    assert send(checkpoint, "model.safetensors", FILES["model.safetensors"])["checked"] is True


def test_a_manifest_that_was_not_announced_is_refused(saved):
    checkpoint = saved()
    with pytest.raises(ValueError, match=r"manifest\.json arrived with SHA-256"):
        send(checkpoint, "manifest.json", manifest_of({"other": b"x"}))
    with pytest.raises(ValueError, match=r"Send manifest\.json first"):
        send(checkpoint, "model.safetensors", b"x")


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "x.part", ""])
def test_a_manifest_cannot_name_files_outside_its_folder(saved, name):
    checkpoint = saved(files={name: b"x"})
    with pytest.raises(ValueError, match="names a file outside its folder"):
        send(checkpoint, "manifest.json", manifest_of({name: b"x"}))
    assert copy_status(checkpoint)["checked"] == []


def test_only_files_of_the_manifest_come_in(saved):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    with pytest.raises(ValueError, match="names no file secrets"):
        send(checkpoint, "secrets", b"x")


def test_more_than_was_announced_is_refused(saved):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    with pytest.raises(ValueError, match="larger than"):
        copy_piece(checkpoint=checkpoint, name="model.safetensors", start=0, total=10**9, data=b"x")


def test_a_full_disk_is_said_and_nothing_is_written(saved, monkeypatch):
    checkpoint = saved()
    send(checkpoint, "manifest.json", manifest_of(FILES))
    usage = shutil.disk_usage("/")._replace(free=100 << 20)
    monkeypatch.setattr(checkpoint_copies.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull, match="100 MiB left"):
        send(checkpoint, "model.safetensors", FILES["model.safetensors"])
    assert copy_status(checkpoint)["have"] == {}


def test_two_senders_do_not_mix_their_pieces(saved):
    checkpoint = saved()
    with (
        checkpoint_copies._alone(checkpoint_copies._arriving(checkpoint)),
        pytest.raises(Busy),
    ):
        send(checkpoint, "manifest.json", manifest_of(FILES))


def test_only_the_node_that_saved_it_is_asked_and_the_newest_comes_first(saved, far):
    first, second = saved(10), saved(20)
    assert [place["step"] for place in copies_wanted(far)] == [20, 10]
    other = Node.objects.create(name="n2", token_digest="x")
    assert copies_wanted(other) == []
    assert saved_by(far, first) and not saved_by(other, first)
    send_all(second)
    assert [place["step"] for place in copies_wanted(far)] == [10]
    Node.objects.update(local=True)
    assert copies_wanted(Node.objects.get(name="n1")) == []


def test_what_the_keep_policy_removed_stays_until_something_newer_is_here(saved):
    old, new = saved(10), saved(20)
    send_all(old)
    Checkpoint.objects.filter(pk=old.pk).update(deleted="2026-01-01T00:00Z")
    old.refresh_from_db()
    assert checkpoint_folder(old) == copy_folder(old)  # still the only one that others can read
    send_all(new)
    old.refresh_from_db()
    assert old.stored == "" and not copy_folder(old).exists()
    assert is_stored(new) and copy_folder(new).is_dir()


def test_a_step_that_was_saved_again_is_another_checkpoint(saved, run):
    checkpoint = saved()
    send_all(checkpoint)
    first = copy_folder(checkpoint)
    again = {"model.safetensors": b"new", "trainer/state.json": b"{}"}
    Attempt.objects.create(run=run, number=2, node=run.node)
    Checkpoint.objects.update(attempt=2, sha256=sha(manifest_of(again)), bytes=10_000)
    checkpoint.refresh_from_db()
    assert not is_stored(checkpoint)
    with pytest.raises(ValueError, match="lie on"):
        checkpoint_folder(checkpoint)
    send_all(checkpoint, again)
    assert is_stored(checkpoint) and not first.exists()
    assert (checkpoint_folder(checkpoint) / "model.safetensors").read_bytes() == b"new"


def test_files_that_the_node_lost_are_waited_for_no_longer(saved, far):
    checkpoint = saved()
    assert copy_lost(checkpoint=checkpoint, sha256="another one") is False
    assert copy_lost(checkpoint=checkpoint, sha256=checkpoint.sha256) is True
    assert copies_wanted(far) == []
    checkpoint.refresh_from_db()
    assert checkpoint.deleted is not None
    stored = saved(20)
    send_all(stored)
    assert copy_lost(checkpoint=stored, sha256=stored.sha256) is False


def test_a_run_that_is_deleted_takes_its_copies_with_it(saved, run):
    checkpoint = saved()
    send_all(checkpoint)
    copies_remove(run.pk)
    root = settings.ANNEAL_DATA_DIR / "artifacts" / "checkpoints"
    assert not [path for path in root.iterdir() if path.name.startswith(run.pk)]
