"""The shelf: archived runs are out of sight, deleted ones are gone with what they took up."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied

from orchestrator.models import Run
from orchestrator.selectors.runs import runs_list
from orchestrator.services.removals import removals_work
from orchestrator.services.runs import run_stop
from orchestrator.services.shelf import run_archive, run_delete, run_unarchive


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


def test_a_run_that_another_one_needs_stays(ended, launch, ada):
    run = ended()
    kept = run.checkpoints.get()
    child = launch("child", model={"name": f"checkpoint:{kept.pk}"})
    with pytest.raises(ValueError, match=r"Still needed by child \("):
        run_delete(run_id=run.pk, user=ada)
    run_stop(run_id=child.pk, user=ada)
    run_delete(run_id=run.pk, user=ada)
    removals_work()
    child.refresh_from_db()
    assert child.state == "stopped"


def test_forks_outlive_their_parent(ended, launch, ada):
    run = ended()
    child = launch("child")
    Run.objects.filter(pk=child.pk).update(parent=run, parent_step=10, parent_name=run.name)
    run_stop(run_id=child.pk, user=ada)
    run_delete(run_id=run.pk, user=ada)
    removals_work()
    child.refresh_from_db()
    assert (child.parent, child.parent_step, child.parent_name) == (None, 10, "tiny")
