"""Deleting a run: asked for at once, done in helpings, the same however often it is cut off."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.utils import timezone

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
    StepSpans,
)
from orchestrator.selectors.removals import SHOWN_FOR, removals_shown
from orchestrator.selectors.runs import runs_list
from orchestrator.services import removals
from orchestrator.services.compaction import pack_due
from orchestrator.services.removals import removal_report, removals_of, removals_work
from orchestrator.services.runs import run_retry
from orchestrator.services.shelf import run_delete
from tests.orchestrator.telemetry import metrics, push, sample, spans
from trainer.disk import disk_bytes

KINDS = (Run, Attempt, Checkpoint, Event, LogLine, Block, Chunk, Sample, Series, StepSpans)


def rows() -> int:
    return sum(kind._default_manager.count() for kind in KINDS)


def gone(removal: Removal) -> int:
    return sum(removal.rows.get(kind._meta.model_name, 0) for kind in KINDS)


@pytest.fixture
def small_helpings(monkeypatch):
    """Batches of one row."""
    batches = tuple((kind, where, 1) for kind, where, _ in removals.BATCHES)
    monkeypatch.setattr(removals, "BATCHES", batches)


def test_a_deleted_run_leaves_no_row_and_no_file_and_says_what_was_freed(ended, ada, messages):
    run = ended()
    pack_due()
    push(run, [metrics(11, loss=0.5), spans(12, 11), spans(13, 12)], first=11)
    folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk
    taken, before = disk_bytes(folder), rows()
    (asked,) = run_delete(run_id=run.pk, user=ada)
    assert (asked.done, asked.bytes, folder.exists()) == (None, None, True)
    assert rows() >= before, "nothing goes within the request"
    assert runs_list()[1] == 0, "lists leave it out from now on"
    before = rows()
    removals_work()
    removal = Removal.objects.get()
    assert taken >= 300_000 and removal.bytes == taken and not folder.exists()
    for model in KINDS:
        assert not model._default_manager.exists(), model
    assert (removal.rows["chunk"], removal.rows["sample"], removal.rows["run"]) == (1, 3, 1)
    assert removal.rows["block"] == 2 and removal.done is not None
    assert gone(removal) == before


def test_asked_twice_it_is_one_removal_and_nothing_changes_the_run_meanwhile(ended, launch, ada):
    run = ended()
    kept = run.checkpoints.get()
    first = run_delete(run_id=run.pk, user=ada)
    assert [one.pk for one in run_delete(run_id=run.pk, user=ada)] == [one.pk for one in first]
    with pytest.raises(ValueError, match="being deleted"):
        run_retry(run_id=run.pk, user=ada)
    for name in (f"checkpoint:{kept.pk}", f"run:{run.pk}"):
        with pytest.raises(ValueError, match="there is no"):
            launch("child", model={"name": name})
    removals_work()
    assert Removal.objects.count() == 1


def test_helpings_end_with_their_time_and_say_how_far_they_came(ended, ada, small_helpings):
    run = ended()
    run_delete(run_id=run.pk, user=ada)
    removals_work(within=0)
    removal = Removal.objects.get()
    assert removal.rows == {"chunk": 1} and removal.done is None
    (shown,) = removals_shown(timezone.now())
    assert (shown.going_on, shown.words) == (True, "being deleted; 1 row gone so far")
    removals_work()
    (shown,) = removals_shown(timezone.now())
    assert not shown.going_on and shown.words.startswith("deleted; ")
    assert removals_shown(timezone.now() + SHOWN_FOR) == []


def test_killed_between_any_two_steps_it_ends_the_same(ended, ada, small_helpings, monkeypatch):
    run = ended()
    push(run, [sample(seq, step=1) for seq in range(4, 9)], source="samples", first=4)
    folder = settings.ANNEAL_DATA_DIR / "runs" / run.pk
    taken = disk_bytes(folder)
    run_delete(run_id=run.pk, user=ada)
    before, pk = rows(), run.pk
    whole, killed = removals.hint, 0

    def dies(kind, **ids):
        raise KeyboardInterrupt

    while Removal.objects.get().done is None:
        # The hint is the last word of each helping: whoever dies there has committed it.
        monkeypatch.setattr(removals, "hint", dies)
        with pytest.raises(KeyboardInterrupt):
            removals_work()
        monkeypatch.setattr(removals, "hint", whole)
        killed += 1
        if killed == 2:
            # What arrives meanwhile goes with the rest.
            push(run, [metrics(11, loss=1.0)], first=11)
            before += 1
    removal = Removal.objects.get()
    assert killed > 10 and not Run.objects.filter(pk=pk).exists() and not folder.exists()
    assert removal.bytes == taken
    assert gone(removal) == before


def test_a_server_that_dies_while_files_go_counts_them_all_and_finishes(ended, ada, monkeypatch):
    run = ended()
    run_id = run.pk
    folder = settings.ANNEAL_DATA_DIR / "runs" / run_id
    taken = disk_bytes(folder)

    def dies(folders):
        next(folder.rglob("model.safetensors")).unlink()
        raise KeyboardInterrupt

    run_delete(run_id=run_id, user=ada)
    monkeypatch.setattr(removals, "folders_remove", dies)
    with pytest.raises(KeyboardInterrupt):
        removals_work()
    assert folder.exists() and not Run.objects.exists()
    monkeypatch.undo()
    removals_work()
    assert not folder.exists() and Removal.objects.get().bytes == taken


def test_a_node_frees_its_own_copy_and_says_how_much(ended, ada, joined):
    run = ended()
    far = joined("far")
    far.local = False
    far.save()
    Attempt.objects.update(node=far)
    kept = list(run.checkpoints.values_list("pk", flat=True))
    run_id = run.pk
    run_delete(run_id=run_id, user=ada)
    removals_work()
    here, there = Removal.objects.order_by("pk")
    assert here.bytes and there.bytes is None
    (shown,) = removals_shown(timezone.now())
    assert shown.words.endswith("; the copies on far go with the next word of far")
    assert removals_of(far) == [{"run": run_id, "checkpoints": kept}]
    assert not removal_report(node=joined("n9"), run_id=run_id, freed=5)
    assert removal_report(node=far, run_id=run_id, freed=4096)
    assert not removal_report(node=far, run_id=run_id, freed=1)
    assert removals_of(far) == []
    assert Removal.objects.get(node=far).bytes == 4096
