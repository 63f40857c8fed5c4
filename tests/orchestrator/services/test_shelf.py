"""The shelf: archived runs are out of sight, deleted ones are gone with what they took up."""

from __future__ import annotations

import os

import pytest
from django.conf import settings
from django.core.exceptions import PermissionDenied

from orchestrator.models import (
    Attempt,
    Block,
    Checkpoint,
    Chunk,
    Event,
    LogLine,
    Removal,
    Run,
    Sample,
    Series,
)
from orchestrator.selectors.runs import runs_list
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.runs import run_stop
from orchestrator.services.shelf import (
    removal_report,
    removals_finish,
    removals_of,
    run_archive,
    run_delete,
    run_unarchive,
)
from tests.orchestrator.telemetry import metrics, push, sample
from trainer.disk import disk_bytes


@pytest.fixture
def ended(working):
    """A run that trained, with rows of every kind, and files on the server's disk."""

    def make(**words) -> Run:
        run = working(**words)
        push(run, [metrics(seq, loss=0.5, reward=0.1) for seq in range(1, 11)])
        push(run, [sample(seq, step=1) for seq in range(1, 4)], source="samples", first=1)
        attempt_end(run, 1, Ending("finished", "finished", "done"), who="t")
        Checkpoint.objects.create(
            run=run, attempt=1, step=10, path="checkpoints/step-10", sha256="0"
        )
        folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk / "checkpoints" / "step-10"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(os.urandom(300_000))
        return run

    return make


def names(**words) -> list[str]:
    return [run.name for run in runs_list(**words)[0]]


def test_an_archived_run_is_hidden_unless_asked_for(ended, launch, ada):
    run = ended(name="old")
    launch("new")
    run = run_archive(run_id=run.pk, user=ada)
    assert run.archived is not None
    assert names() == ["new"]
    assert names(archived="only") == ["old"] and names(archived="with") == ["new", "old"]
    again = run_archive(run_id=run.pk, user=ada)
    assert again.archived == run.archived
    assert run_unarchive(run_id=run.pk, user=ada).archived is None
    assert names() == ["new", "old"]


def test_a_run_that_goes_on_is_neither_archived_nor_deleted(working, launch, ada, bob):
    run = working()
    for verb, words in ((run_archive, "can be archived"), (run_delete, "is not deleted")):
        with pytest.raises(ValueError, match=words):
            verb(run_id=run.pk, user=ada)
        with pytest.raises(ValueError, match=words):
            verb(run_id=launch("waits").pk, user=ada)
    run_stop(run_id=run.pk, user=ada)
    with pytest.raises(ValueError, match="this one is stopping"):
        run_delete(run_id=run.pk, user=ada)
    with pytest.raises(PermissionDenied):
        run_delete(run_id=run.pk, user=bob)


def test_a_deleted_run_leaves_no_row_and_no_file_and_says_what_was_freed(ended, ada):
    run, other = ended(), None
    folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk
    taken = disk_bytes(folder)
    (removal,) = run_delete(run_id=run.pk, user=ada)
    assert taken >= 300_000 and removal.bytes == taken and not folder.exists()
    for model in (Run, Attempt, Checkpoint, Event, LogLine, Block, Chunk, Sample, Series):
        assert not model.objects.exists(), model
    assert (removal.rows["chunk"], removal.rows["sample"], removal.rows["run"]) == (1, 3, 1)
    assert other is None and Removal.objects.get().done is not None


def test_a_run_that_another_one_needs_stays(ended, launch, ada):
    run = ended()
    kept = run.checkpoints.get()
    child = launch("child", model={"name": f"checkpoint:{kept.pk}"})
    with pytest.raises(ValueError, match=r"Still needed by child \("):
        run_delete(run_id=run.pk, user=ada)
    run_stop(run_id=child.pk, user=ada)
    run_delete(run_id=run.pk, user=ada)
    child.refresh_from_db()
    assert child.state == "stopped"


def test_a_node_frees_its_own_copy_and_says_how_much(ended, ada, joined):
    run = ended()
    Attempt.objects.update(node=None)
    far = joined("far")
    far.local = False
    far.save()
    Attempt.objects.update(node=far)
    kept = list(run.checkpoints.values_list("pk", flat=True))
    run_id = run.pk
    here, there = run_delete(run_id=run_id, user=ada)
    assert here.bytes and there.bytes is None
    assert removals_of(far) == [{"run": run_id, "checkpoints": kept}]
    assert not removal_report(node=joined("n9"), run_id=run_id, freed=5)
    assert removal_report(node=far, run_id=run_id, freed=4096)
    assert not removal_report(node=far, run_id=run_id, freed=1)
    assert removals_of(far) == []
    assert Removal.objects.get(node=far).bytes == 4096


def test_a_server_that_went_down_between_rows_and_files_finishes_later(ended, ada, monkeypatch):
    run = ended()
    run_id = run.pk

    def down(folders):
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.services.shelf.folders_remove", down)
    with pytest.raises(KeyboardInterrupt):
        run_delete(run_id=run_id, user=ada)
    folder = settings.ANNEAL_DATA_DIR / "runs" / run_id
    assert folder.exists() and not Run.objects.exists()
    monkeypatch.undo()
    removals_finish()
    assert not folder.exists() and Removal.objects.get().bytes >= 300_000


def test_forks_outlive_their_parent(ended, launch, ada):
    run = ended()
    child = launch("child")
    Run.objects.filter(pk=child.pk).update(parent=run, parent_step=10, parent_name=run.name)
    run_stop(run_id=child.pk, user=ada)
    run_delete(run_id=run.pk, user=ada)
    child.refresh_from_db()
    assert (child.parent, child.parent_step, child.parent_name) == (None, 10, "tiny")
