"""Tags, pins, stages and notes: who may change them, what is written down, what a pin keeps."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from orchestrator.models import Checkpoint, Event, RegistryChange, Run
from orchestrator.selectors.pins import pins_of
from orchestrator.services import ingest, registry
from orchestrator.services.checkpoint_copies import goes_for_good
from orchestrator.services.registry import checkpoint_patch
from orchestrator.services.shelf import run_delete
from tests.orchestrator.telemetry import T0, push


@pytest.fixture
def kept(run):
    return Checkpoint.objects.create(run=run, attempt=1, step=10, path="x", sha256="a" * 64)


def patch(checkpoint, user, role=None, **changes):
    return checkpoint_patch(checkpoint_id=checkpoint.pk, user=user, role=role, changes=changes)


def noted(**fields):
    found = RegistryChange.objects.order_by("pk").values_list("what", "old", "new", "by")
    return list(found.filter(**fields))


def test_each_change_is_written_down_with_who_and_when(kept, ada, alma):
    before = timezone.now()
    patch(kept, ada, tags=[" b ", "a", "b", ""], pinned=True, note=" good \x00")
    patch(kept, alma, stage="candidate")
    patch(kept, alma, stage="approved", pinned=True)
    kept.refresh_from_db()
    assert (kept.tags, kept.pinned, kept.note) == (["a", "b"], True, "good \ufffd")
    assert (kept.stage, kept.stage_by) == ("approved", "alma") and kept.stage_at > before
    assert noted() == [
        ("tags", [], ["a", "b"], "ada"),
        ("pinned", False, True, "ada"),
        ("note", "", "good \ufffd", "ada"),
        ("stage", "", "candidate", "alma"),
        ("stage", "candidate", "approved", "alma"),
    ]
    change = RegistryChange.objects.first()
    assert (change.subject, change.title) == (f"checkpoint:{kept.pk}", "tiny, step 10")
    assert change.at >= before


def test_only_its_owner_and_admins_change_it(kept, ada, bob, vera, alma):
    for user in (bob, vera):
        with pytest.raises(PermissionDenied, match="Only its owner or an admin"):
            patch(kept, user, stage="approved")
    with pytest.raises(PermissionDenied):
        patch(kept, ada, role="viewer", stage="approved")
    with pytest.raises(PermissionDenied):
        patch(kept, alma, role="operator", stage="approved")
    assert not RegistryChange.objects.exists()
    patch(kept, ada, stage="candidate")
    patch(kept, alma, stage="retired")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stage": "best"}, "stage: 'best' is none; use candidate, approved, retired, or nothing"),
        ({"tags": ["x" * 65]}, "tags: 'x+…' is longer than 64"),
        ({"tags": [str(number) for number in range(33)]}, "tags: at most 32"),
        ({"note": "x" * 20_001}, "note: longer than 20,000"),
    ],
)
def test_nonsense_is_refused_with_a_sentence_and_changes_nothing(kept, ada, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        patch(kept, ada, pinned=True, **changes)
    kept.refresh_from_db()
    assert not kept.pinned and not RegistryChange.objects.exists()


def test_what_is_gone_cannot_be_pinned_but_a_copy_that_is_left_can(kept, ada):
    Checkpoint.objects.update(deleted=timezone.now())
    for changes, field in (({"pinned": True}, "pinned"), ({"stage": "approved"}, "stage")):
        with pytest.raises(ValueError, match=f"{field}: its files were removed"):
            patch(kept, ada, **changes)
    patch(kept, ada, stage="retired")
    Checkpoint.objects.update(stored="a" * 64)
    assert patch(kept, ada, pinned=True).pinned


def test_a_trainer_hears_of_pins_and_approvals_with_its_beats(kept, run, ada):
    later = Checkpoint.objects.create(run=run, attempt=1, step=20, path="y", sha256="b" * 64)
    assert ingest.beat(run_id=run.pk, attempt=1)["pins"] == []
    patch(later, ada, pinned=True)
    patch(kept, ada, stage="approved")
    assert ingest.beat(run_id=run.pk, attempt=1)["pins"] == pins_of(run.pk) == [10, 20]
    patch(kept, ada, stage="retired")
    assert ingest.beat(run_id=run.pk, attempt=1)["pins"] == [20]


def test_a_pin_is_told_at_once(kept, ada, monkeypatch):
    told = []
    monkeypatch.setattr(registry, "hint", lambda kind, **ids: told.append(kind))
    patch(kept, ada, tags=["a"])
    assert told == ["run"]
    patch(kept, ada, pinned=True)
    assert told == ["run", "want", "run"]


def test_a_copy_of_a_pinned_one_stays_when_its_trainer_has_removed_it(kept, ada):
    Checkpoint.objects.update(deleted=timezone.now(), stored="a" * 64)
    kept.refresh_from_db()
    assert goes_for_good(kept, (1, 20))
    patch(kept, ada, pinned=True)
    kept.refresh_from_db()
    assert not goes_for_good(kept, (1, 20))


def saved(step, sha256, removed=()):
    event = {"seq": step, "time": T0 + step, "type": "checkpoint", "step": step}
    return event | {"sha256": sha256, "bytes": 5, "removed": list(removed)}


def test_a_pin_that_came_too_late_is_told_of(run, ada):
    push(run, [saved(1, "a" * 64)])
    patch(Checkpoint.objects.get(), ada, pinned=True)
    push(run, [saved(2, "b" * 64, removed=[1])])
    alert = Event.objects.get(data__code="pin-missed")
    assert "step 1 is pinned, but its trainer had removed it" in alert.data["message"]
    assert "nothing is left of it" in alert.data["message"]
    assert Checkpoint.objects.get(step=1).deleted is not None


def test_a_step_that_is_saved_again_keeps_its_pin_and_loses_its_stage(run, ada):
    push(run, [saved(1, "a" * 64)])
    checkpoint = Checkpoint.objects.get()
    patch(checkpoint, ada, pinned=True, stage="approved")
    push(run, [{**saved(1, "a" * 64), "seq": 2}])
    checkpoint.refresh_from_db()
    assert checkpoint.stage == "approved", "the same weights, told twice"
    push(run, [{**saved(1, "b" * 64), "seq": 3}])
    checkpoint.refresh_from_db()
    assert (checkpoint.stage, checkpoint.pinned) == ("", True)
    change = RegistryChange.objects.order_by("pk").last()
    assert (change.what, change.old, change.new, change.by) == ("stage", "approved", "", "trainer")
    assert "attempt 1 saved the step again" in change.why


def test_a_run_with_a_pinned_checkpoint_is_not_deleted(ended, ada):
    run = ended()
    kept = run.checkpoints.get()
    patch(kept, ada, stage="approved")
    with pytest.raises(ValueError, match=r"Its checkpoint of step 10 is approved\. Unpin it"):
        run_delete(run_id=run.pk, user=ada)
    patch(kept, ada, stage="candidate")
    assert run_delete(run_id=run.pk, user=ada)
    with pytest.raises(ValueError, match="being deleted"):
        patch(kept, ada, pinned=True)


def test_what_is_not_there_says_so(db, ada):
    with pytest.raises(ValueError, match="There is no checkpoint x"):
        checkpoint_patch(checkpoint_id="x", user=ada, changes={})
    assert not Run.objects.exists()
