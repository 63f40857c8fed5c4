"""What people say of checkpoints and external models: tags, pins, stages, notes. Each change is written down."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils import timezone

from orchestrator.models import Checkpoint, External, RegistryChange, Role, Run, Stage
from orchestrator.models.registered import NOTE_LENGTH, PROTECTED, TAG_LENGTH, TAGS_MOST
from orchestrator.selectors.reach import is_stored
from orchestrator.selectors.removals import is_being_deleted
from orchestrator.services.facts import event_add, run_locked
from orchestrator.services.hints import hint
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet

    from orchestrator.models import User

Thing = Checkpoint | External

NAME_MOST = 120
TRAINER = "trainer"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


def may_change(thing: Thing, user: User, role: str | None = None) -> bool:
    """Whether this person may tag, pin, stage or delete: an admin, or its owner while an operator.

    `role` caps the person's own (API tokens).
    """
    role = role or str(user.role)
    owner = thing.owner_id if isinstance(thing, External) else thing.run.owner_id
    return role == Role.ADMIN or (owner == user.pk and role == Role.OPERATOR)


def may_change_check(thing: Thing, user: User, role: str | None = None) -> None:
    """Raise PermissionDenied for whoever may not change it."""
    if not may_change(thing, user, role):
        kind = "an external model" if isinstance(thing, External) else "a checkpoint"
        raise PermissionDenied(f"Only its owner or an admin may change {kind}.")


def checkpoint_locked(checkpoint_id: str) -> Checkpoint:
    """The checkpoint's row and, before it, its run's, locked until the transaction ends.

    Raises ValueError when there is none, or its run is being deleted.
    """
    found = Checkpoint.objects.filter(pk=checkpoint_id).values_list("run_id", flat=True).first()
    if found is None:
        raise ValueError(f"There is no checkpoint {checkpoint_id}.")
    run = run_locked(found)
    if is_being_deleted(run.pk):
        raise ValueError("Its run is being deleted.")
    checkpoint = Checkpoint.objects.select_for_update().get(pk=checkpoint_id)
    checkpoint.run = run
    return checkpoint


def checkpoint_patch(
    *, checkpoint_id: str, user: User, role: str | None = None, changes: dict[str, Any]
) -> Checkpoint:
    """Change `tags`, `pinned`, `stage` or `note`. Raises PermissionDenied, or ValueError that names the field.

    A trainer at work hears of a pin with its next answer.
    """
    with transaction.atomic():
        checkpoint = checkpoint_locked(checkpoint_id)
        may_change_check(checkpoint, user, role)
        before = checkpoint.protection
        _set(checkpoint, _checked(changes), who=user.get_username())
        if checkpoint.protection and not before and _is_gone(checkpoint):
            field = "pinned" if changes.get("pinned") else "stage"
            raise ValueError(f"{field}: its files were removed, so there is nothing left to keep")
        if bool(checkpoint.protection) != bool(before):
            hint("want", run=checkpoint.run_id)
        hint("run", run=checkpoint.run_id)
    return checkpoint


def external_patch(
    *, external_id: str, user: User, role: str | None = None, changes: dict[str, Any]
) -> External:
    """Change `name`, `tags`, `pinned`, `stage` or `note`. Raises PermissionDenied, or ValueError."""
    with transaction.atomic():
        external = external_locked(external_id)
        may_change_check(external, user, role)
        _set(external, _checked(changes), who=user.get_username())
    return external


def external_locked(external_id: str) -> External:
    """The row of an external model, locked until the transaction ends. Raises ValueError when there is none."""
    try:
        return External.objects.select_for_update().get(pk=external_id)
    except External.DoesNotExist:
        raise ValueError(f"There is no external model {external_id}.") from None


def change_note(
    thing: Thing, what: str, *, who: str, old: Any = None, new: Any = None, why: str = ""
) -> None:
    """Write down that somebody changed something."""
    RegistryChange.objects.create(
        subject=subject_of(thing), title=str(thing)[:200], what=what, old=old, new=new, by=who,
        why=why[:300],
    )  # fmt: skip


def subject_of(thing: Thing) -> str:
    """`checkpoint:ID` or `external:ID`, as specs name it."""
    prefix = EXTERNAL_PREFIX if isinstance(thing, External) else CHECKPOINT_PREFIX
    return f"{prefix}{thing.pk}"


def checkpoint_replaced(run: Run, step: int, *, sha256: str, attempt: int) -> None:
    """Take the stage back where an attempt saves a step again: what people looked at were other weights."""
    staged = Checkpoint.objects.filter(run=run, step=step).exclude(stage=Stage.NONE)
    for one in staged.exclude(sha256=sha256):
        why = f"attempt {attempt} saved the step again: these are other weights"
        stage_drop(one, who=TRAINER, why=why)


def stage_drop(thing: Thing, *, who: str, why: str) -> None:
    """Take a model's stage back, because it is another model now."""
    change_note(thing, "stage", who=who, old=str(thing.stage), new="", why=why)
    thing.stage, thing.stage_by, thing.stage_at = Stage.NONE, who, timezone.now()
    thing.save(update_fields=["stage", "stage_by", "stage_at"])


def pins_missed(run: Run, gone: QuerySet[Checkpoint]) -> None:
    """Say so where the keep policy removed what was pinned: the pin had not reached the trainer yet."""
    for one in gone.filter(PROTECTED).select_related("run"):
        left = (
            "the server's copy stays."
            if is_stored(one)
            else "nothing is left of it. Pin a checkpoint while its run still keeps it."
        )
        message = (
            f"The checkpoint of step {one.step} is {one.protection}, but its trainer had removed it "
            f"before it heard of that; {left}"
        )
        event_add(run, "alert", level="warning", code="pin-missed", message=message)


def _set(thing: Thing, changes: dict[str, Any], *, who: str) -> None:
    """Set checked fields, and note each that moves."""
    moved = {name: value for name, value in changes.items() if getattr(thing, name) != value}
    for name, value in moved.items():
        change_note(thing, name, who=who, old=_plain(getattr(thing, name)), new=_plain(value))
        setattr(thing, name, value)
    if "stage" in moved:
        thing.stage_by, thing.stage_at = who, timezone.now()
        moved |= {"stage_by": who, "stage_at": thing.stage_at}
    if moved:
        thing.save(update_fields=list(moved))


def _checked(changes: dict[str, Any]) -> dict[str, Any]:
    """The changes as they are stored. Raises ValueError that names the field."""
    found = dict(changes)
    if "name" in found:
        found["name"] = name_checked(found["name"])
    if "tags" in found:
        found["tags"] = tags_checked(found["tags"])
    if "stage" in found and found["stage"] not in Stage.values:
        names = ", ".join(value for value in Stage.values if value)
        raise ValueError(f"stage: '{str(found['stage'])[:40]}' is none; use {names}, or nothing")
    if "note" in found:
        found["note"] = _UNSTORABLE.sub("\ufffd", found["note"]).strip()
        if len(found["note"]) > NOTE_LENGTH:
            raise ValueError(f"note: longer than {NOTE_LENGTH:,} characters")
    return found


def name_checked(name: str) -> str:
    """A name without what no page could show. Raises ValueError for an empty one."""
    kept = _CONTROL.sub(" ", name).strip()
    if not kept:
        raise ValueError("name: a model needs a name")
    if len(kept) > NAME_MOST:
        raise ValueError(f"name: longer than {NAME_MOST} characters")
    return kept


def tags_checked(tags: Iterable[str]) -> list[str]:
    """Tags without space around them, each once, in order. Raises ValueError for too many or too long ones."""
    kept = sorted({text for tag in tags if (text := _CONTROL.sub(" ", tag).strip())})
    if len(kept) > TAGS_MOST:
        raise ValueError(f"tags: at most {TAGS_MOST}")
    if long := next((tag for tag in kept if len(tag) > TAG_LENGTH), ""):
        raise ValueError(f"tags: '{long[:40]}…' is longer than {TAG_LENGTH} characters")
    return kept


def _is_gone(checkpoint: Checkpoint) -> bool:
    return checkpoint.deleted is not None and not is_stored(checkpoint)


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Stage) else value
