"""Deleting a checkpoint: refused where it must stay, done in the background where it may go."""

from __future__ import annotations

import shutil

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied

from orchestrator.artifacts.store import Store
from orchestrator.models import Attempt, Checkpoint, Event, Node, RegistryChange, Run
from orchestrator.selectors.inputs import store_key
from orchestrator.services import checkpoint_removals
from orchestrator.services.checkpoint_copies import copies_of, copy_folder
from orchestrator.services.checkpoint_removals import (
    checkpoint_delete,
    checkpoint_left,
    checkpoint_removals_work,
    drops_of,
)
from orchestrator.services.checkpoints import checkpoint_folder
from orchestrator.services.registry import checkpoint_patch
from orchestrator.services.runs import run_retry, run_stop
from orchestrator.services.store_copies import copy_confirm
from orchestrator.services.store_keeper import look
from tests.orchestrator.registered import checkpoint_write, folder_of
from tests.orchestrator.services.conftest import DPO
from trainer.disk import disk_bytes


@pytest.fixture
def kept(ended):
    """A run that has ended, with two checkpoints on the server's disk."""
    run = ended()
    Checkpoint.objects.all().delete()
    shutil.rmtree(settings.ANNEAL_DATA_DIR / "runs" / run.pk)
    yield [checkpoint_write(run, step, 100_000) for step in (10, 20)]
    shutil.rmtree(copies_of(run.pk), ignore_errors=True)


def fresh(checkpoint):
    return Checkpoint.objects.get(pk=checkpoint.pk)


def test_it_is_gone_for_everybody_at_once_and_its_files_follow(kept, ada, messages):
    old, new = kept
    taken = disk_bytes(folder_of(old))
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    found = fresh(old)
    assert (found.deleted_by, found.leaves) == ("ada", ["server"]) and found.deleted
    with pytest.raises(ValueError, match="were removed"):
        checkpoint_folder(found)
    assert folder_of(old).is_dir(), "nothing goes within the request"
    checkpoint_removals_work()
    found = fresh(old)
    assert not folder_of(old).exists() and folder_of(new).is_dir()
    assert (found.leaves, found.freed) == ([], taken) and taken >= 100_000
    (change,) = RegistryChange.objects.all()
    assert (change.what, change.by, change.old) == ("deleted", "ada", old.sha256)
    event = Event.objects.get(data__code="checkpoint-deleted")
    assert event.data["message"] == "The checkpoint of step 10 was deleted by ada."
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    assert RegistryChange.objects.count() == 1, "asked twice it is one deletion"


@pytest.mark.parametrize("changes", [{"pinned": True}, {"stage": "approved"}])
def test_what_is_pinned_or_approved_is_refused(kept, ada, alma, changes):
    checkpoint_patch(checkpoint_id=kept[0].pk, user=ada, changes=changes)
    word = "pinned" if "pinned" in changes else "approved"
    for user in (ada, alma):
        with pytest.raises(ValueError, match=f"It is {word}. Unpin it, or give it another stage"):
            checkpoint_delete(checkpoint_id=kept[0].pk, user=user)
    assert fresh(kept[0]).deleted is None


def test_what_a_run_needs_that_has_not_ended_is_refused(kept, launch, ada):
    old, new = kept
    child = launch("child", model={"name": f"run:{new.run_id}"})
    other = launch("other", reference={"name": f"checkpoint:{old.pk}"}, **DPO)
    for checkpoint, name in ((new, "child"), (old, "other")):
        with pytest.raises(ValueError, match=f"It stays: {name} needs it and has not ended"):
            checkpoint_delete(checkpoint_id=checkpoint.pk, user=ada)
    run_stop(run_id=other.pk, user=ada)
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    run_stop(run_id=child.pk, user=ada)
    checkpoint_delete(checkpoint_id=new.pk, user=ada)


def test_a_run_that_has_not_ended_keeps_its_own(working, ada):
    run = working()
    checkpoint = checkpoint_write(run, 10)
    with pytest.raises(ValueError, match="It stays: its run has not ended"):
        checkpoint_delete(checkpoint_id=checkpoint.pk, user=ada)


def test_only_its_owner_and_admins_delete(kept, bob, vera, alma):
    for user in (bob, vera):
        with pytest.raises(PermissionDenied):
            checkpoint_delete(checkpoint_id=kept[0].pk, user=user)
    checkpoint_delete(checkpoint_id=kept[0].pk, user=alma)


def test_killed_between_counting_and_removing_it_counts_once(kept, ada, monkeypatch):
    old, _ = kept
    taken = disk_bytes(folder_of(old))
    checkpoint_delete(checkpoint_id=old.pk, user=ada)

    def dies(folder):
        (folder / "model.safetensors").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_removals, "folder_remove", dies)
        with pytest.raises(KeyboardInterrupt):
            checkpoint_removals_work()
    assert fresh(old).leaves == ["server"] and folder_of(old).is_dir()
    checkpoint_removals_work()
    assert (fresh(old).freed, folder_of(old).exists()) == (taken, False)


def test_while_the_run_goes_on_again_nothing_is_taken_from_under_it(kept, ada, monkeypatch):
    old, _ = kept
    Run.objects.update(state="stopped", cause="user")
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    run_retry(run_id=old.run_id, user=ada)
    checkpoint_removals_work()
    assert folder_of(old).is_dir() and fresh(old).leaves == ["server"]
    run_stop(run_id=old.run_id, user=ada)
    checkpoint_removals_work()
    assert not folder_of(old).exists()


def test_another_checkpoint_of_the_same_step_is_left_alone(kept, ada):
    old, _ = kept
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    (folder_of(old) / "manifest.json").write_text("of a later attempt")
    checkpoint_removals_work()
    assert folder_of(old).is_dir() and fresh(old).leaves == []


def test_the_servers_copy_goes_too_also_when_it_is_the_newest(kept, ada):
    new = kept[1]
    copy = copy_folder(new)
    shutil.copytree(folder_of(new), copy)
    Checkpoint.objects.filter(pk=new.pk).update(stored=new.sha256)
    checkpoint_delete(checkpoint_id=new.pk, user=ada)
    checkpoint_removals_work()
    assert not copy.exists() and fresh(new).stored == ""
    assert fresh(new).freed >= 200_000


def test_a_node_with_a_disk_of_its_own_hears_of_it_and_reports(kept, ada, joined):
    old, _ = kept
    far = joined("far")
    Node.objects.filter(pk=far.pk).update(local=False)
    Attempt.objects.update(node=far)
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    assert fresh(old).leaves == ["server", far.pk]
    asked = {"checkpoint": old.pk, "run": old.run_id, "path": old.path, "sha256": old.sha256}
    assert drops_of(far) == [asked]
    Run.objects.update(state="running")
    assert drops_of(far) == [], "the run goes on: what lies there is its trainer's"
    Run.objects.update(state="finished")
    assert not checkpoint_left(old.pk, "x" * 12, 5)
    assert checkpoint_left(old.pk, far.pk, 4096) and not checkpoint_left(old.pk, far.pk, 1)
    assert drops_of(far) == [] and fresh(old).freed == 4096


def test_what_lies_in_the_artifact_store_goes_with_its_next_look(kept, ada, s3, settings, tmp_path):
    old, _ = kept
    settings.ANNEAL_ARTIFACTS_URL = s3.bucket()
    store = Store(settings.ANNEAL_ARTIFACTS_URL)
    for name in ("model.safetensors", "trainer/state.json", "manifest.json"):
        store.put(folder_of(old) / name, f"{store_key(old)}/{name}")
    assert copy_confirm(store, old.pk, old.sha256) and store.sizes(store_key(old))
    checkpoint_patch(checkpoint_id=old.pk, user=ada, changes={"pinned": True})
    Checkpoint.objects.filter(pk=old.pk).update(deleted="2026-01-01T00:00Z")
    assert look(store) and store.sizes(store_key(old)), "what is pinned stays in the store"
    Checkpoint.objects.filter(pk=old.pk).update(deleted=None)
    checkpoint_patch(checkpoint_id=old.pk, user=ada, changes={"pinned": False})
    checkpoint_delete(checkpoint_id=old.pk, user=ada)
    checkpoint_removals_work()
    assert fresh(old).leaves == ["store"]
    assert look(store)
    assert fresh(old).leaves == [] and not store.sizes(store_key(old))
    shutil.rmtree(settings.ANNEAL_DATA_DIR / "artifacts")
