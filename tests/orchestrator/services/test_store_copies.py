"""What nodes put into the artifact store counts once the server has seen all of it, and goes when it is to go."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from django.conf import settings as now
from django.utils import timezone

from orchestrator.artifacts.store import Store
from orchestrator.models import Attempt, Checkpoint, Event
from orchestrator.selectors.artifacts import checkpoints_waiting
from orchestrator.selectors.inputs import checkpoint_place, store_key
from orchestrator.selectors.reach import is_stored
from orchestrator.services import store_copies
from orchestrator.services.checkpoint_copies import copies_wanted, copy_folder
from orchestrator.services.checkpoint_listing import checkpoint_listing
from orchestrator.services.checkpoints import checkpoint_file, checkpoint_files
from orchestrator.services.store_copies import (
    copies_forward,
    copy_confirm,
    copy_waits,
    leaving_free,
    run_leaves,
    superseded_free,
)

FILES = {"model.safetensors": b"weights" * 50, "trainer/state.json": b"{}"}


@pytest.fixture
def store(settings, tmp_path):
    """A folder that server and nodes share."""
    (tmp_path / "shared").mkdir()
    settings.ANNEAL_ARTIFACTS_URL = (tmp_path / "shared").as_uri()
    yield Store(settings.ANNEAL_ARTIFACTS_URL)
    shutil.rmtree(now.ANNEAL_DATA_DIR / "artifacts", ignore_errors=True)


def manifest_of(files: dict[str, bytes]) -> bytes:
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    return json.dumps({"files": hashes}).encode()


@pytest.fixture
def sent(run, store, tmp_path):
    """Note a checkpoint that was saved, and put it into the store: `sent(step)`."""

    def make(step: int = 10, files: dict[str, bytes] = FILES, attempt: int = 1) -> Checkpoint:
        manifest = manifest_of(files)
        fields = {"attempt": attempt, "path": f"checkpoints/step-{step}", "deleted": None}
        fields |= {"sha256": hashlib.sha256(manifest).hexdigest()}
        fields |= {"bytes": len(manifest) + sum(map(len, files.values()))}
        found, _ = Checkpoint.objects.update_or_create(run=run, step=step, defaults=fields)
        for name, data in {**files, "manifest.json": manifest}.items():
            (tmp_path / "object").write_bytes(data)
            store.put(tmp_path / "object", f"{store_key(found)}/{name}")
        return found

    return make


def confirmed(store: Store, checkpoint: Checkpoint) -> Checkpoint:
    assert copy_confirm(store, checkpoint.pk, checkpoint.sha256) is True
    checkpoint.refresh_from_db()
    return checkpoint


def alerts() -> list[str]:
    return [one.data["message"] for one in Event.objects.filter(data__code="artifacts")]


def test_it_counts_once_it_is_seen_and_pages_read_what_was_seen(store, sent):
    checkpoint = sent()
    assert not is_stored(checkpoint) and checkpoint_place(checkpoint)["in_store"] is False
    confirmed(store, checkpoint)
    assert is_stored(checkpoint)
    place = checkpoint_place(checkpoint)
    assert (
        place["in_store"]
        and place["key"] == f"checkpoints/{checkpoint.run_id}/10-{place['sha256'][:16]}"
    )
    assert copy_confirm(store, checkpoint.pk, checkpoint.sha256) is False, "it counts already"
    # From here on no page needs the store.
    store.remove(store_key(checkpoint))
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert checkpoint_files(checkpoint) == hashes
    where, files = checkpoint_listing(checkpoint)
    assert where == f"{store.url}/{place['key']}"
    assert [(one.name, one.bytes) for one in files] == [
        ("model.safetensors", 350),
        ("trainer/state.json", 2),
    ]
    assert checkpoint_file(checkpoint, "model.safetensors").size == 350
    for name in ("secret", "../../state.json"):
        with pytest.raises(ValueError, match="holds no file"):
            checkpoint_file(checkpoint, name)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda store, key: store.remove(key), "the server finds no"),
        (lambda store, key: store.remove(f"{key}/manifest.json"), "make it the same place for both"),
        (lambda store, key: store.remove(f"{key}/model.safetensors"), "model.safetensors of step 10 is missing"),
        (lambda store, key: replace(store, f"{key}/model.safetensors", b"short"), "have"),
        (lambda store, key: replace(store, f"{key}/manifest.json", b"{}"), "is another one"),
    ],
)  # fmt: skip
def test_what_is_not_all_there_does_not_count_and_its_run_says_so(store, sent, harm, words):
    checkpoint = sent()
    harm(store, store_key(checkpoint))
    for _ in range(2):
        assert copy_confirm(store, checkpoint.pk, checkpoint.sha256) is False
    checkpoint.refresh_from_db()
    assert checkpoint.stored == ""
    (said,) = alerts()
    assert said.startswith("The checkpoint of step 10 waits on its node.") and words in said


def replace(store: Store, key: str, data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        store.put(Path(file.name), key)


def test_a_step_that_was_saved_again_meanwhile_does_not_count_for_the_old_one(store, sent):
    checkpoint = sent()
    old = checkpoint.sha256
    Checkpoint.objects.update(sha256="f" * 64)
    assert copy_confirm(store, checkpoint.pk, old) is False
    assert copy_confirm(store, "no-such-id", old) is False


def test_the_keep_policy_takes_objects_away_once_something_newer_is_there(store, sent, run):
    first = confirmed(store, sent(10))
    Checkpoint.objects.filter(pk=first.pk).update(deleted=timezone.now())
    superseded_free(store, run.pk)
    assert store.sizes(store_key(first)), "others may still need it"
    second = confirmed(store, sent(20))
    first.refresh_from_db()
    assert store.sizes(store_key(first)) == {} and first.stored == ""
    assert not store_copies.listing_path(first).exists()
    assert store.sizes(store_key(second)) and is_stored(second)


def test_a_step_that_a_later_attempt_saved_again_leaves_no_old_object(store, sent, run):
    old = store_key(confirmed(store, sent(10)))
    Attempt.objects.create(run=run, number=2, node=run.node)
    again = sent(10, {"model.safetensors": b"new"}, attempt=2)
    assert not is_stored(again)
    confirmed(store, again)
    assert store.sizes(old) == {} and len(store.folders(f"checkpoints/{run.pk}")) == 1


def test_a_deleted_run_leaves_nothing_also_what_arrived_late(store, sent, run, monkeypatch):
    checkpoint = confirmed(store, sent())
    run_leaves(run.pk)
    leaving_free(store)
    assert store.folders(f"checkpoints/{run.pk}") == []
    assert not store_copies.listing_path(checkpoint).exists()
    sent(20)  # a node was in the middle of it
    leaving_free(store)
    assert store.folders(f"checkpoints/{run.pk}") == []
    monkeypatch.setattr(store_copies, "LINGER", -1.0)
    leaving_free(store)
    assert list((now.ANNEAL_DATA_DIR / "artifacts" / "leaving").iterdir()) == []


def test_without_a_store_a_deleted_run_leaves_no_note(run):
    run_leaves(run.pk)
    assert not (now.ANNEAL_DATA_DIR / "artifacts" / "leaving").exists()


def test_the_same_reason_is_told_once_and_another_one_again(store, sent):
    checkpoint = sent()
    for message in (
        "ANNEAL_ARTIFACTS_URL: a",
        "ANNEAL_ARTIFACTS_URL: a",
        "ANNEAL_ARTIFACTS_URL: b",
    ):
        copy_waits(checkpoint=checkpoint, message=message)
    assert [said[-1] for said in alerts()] == ["a", "b"]


def test_what_the_servers_own_node_saves_goes_into_the_store_as_well(store, run, settings):
    saved = Checkpoint.objects.create(
        run=run, attempt=1, step=5, path="checkpoints/step-5", sha256="a" * 64
    )
    node = run.node
    node.local = True
    assert [place["checkpoint"] for place in copies_wanted(node)] == [saved.pk]
    settings.ANNEAL_ARTIFACTS_URL = ""
    assert copies_wanted(node) == []


@pytest.fixture
def copied(run, store):
    """Let a copy of a checkpoint lie whole on the server's own disk: `copied(step)`."""

    def make(step: int = 10) -> Checkpoint:
        manifest = manifest_of(FILES)
        sha256 = hashlib.sha256(manifest).hexdigest()
        fields = {"path": f"checkpoints/step-{step}", "sha256": sha256, "stored": sha256}
        found = Checkpoint.objects.create(run=run, attempt=1, step=step, **fields)
        for name, data in {**FILES, "manifest.json": manifest}.items():
            (copy_folder(found) / name).parent.mkdir(parents=True, exist_ok=True)
            (copy_folder(found) / name).write_bytes(data)
        return found

    return make


def test_what_lies_on_the_servers_disk_is_passed_on_and_stays_readable_all_the_while(store, copied):
    checkpoint = copied()
    assert checkpoints_waiting() == 1
    assert (
        checkpoint_file(checkpoint, "model.safetensors")
        == copy_folder(checkpoint) / "model.safetensors"
    )
    (copy_folder(checkpoint).parent / f"9-abc{store_copies.GONE}").mkdir()
    copies_forward(store)
    assert sorted(store.sizes(store_key(checkpoint))) == ["manifest.json", *FILES]
    assert checkpoint_file(checkpoint, "model.safetensors").size == 350
    assert list(copy_folder(checkpoint).parent.iterdir()) == [] and checkpoints_waiting() == 0


def test_a_copy_that_rotted_on_the_servers_disk_stays_there_and_is_told_of(store, copied):
    checkpoint = copied()
    (copy_folder(checkpoint) / "model.safetensors").write_bytes(b"weightz" * 50)
    copies_forward(store)
    (said,) = alerts()
    assert "waits on this server. model.safetensors on this machine's disk is not" in said
    assert copy_folder(checkpoint).is_dir() and "manifest.json" not in store.sizes(
        store_key(checkpoint)
    )
