"""Whether a run may go on from a checkpoint, and from which one."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from trainer.engine import checkpoint
from trainer.engine.failure import Failure
from trainer.engine.fingerprint import (
    content_changes,
    content_remarks,
    orders_digest,
    spec_changes,
)
from trainer.spec import spec_hash

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.checkpoint import Saved
    from trainer.engine.saving import Saver
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.rundir import RunDir
    from trainer.spec import RunSpec


def resume_point(session: Session, folder: RunDir) -> Path | None:
    """The newest complete checkpoint in a run's directory; every damaged one is told of."""
    if folder is session.run:
        _roll_back(session, folder)

    def warn(sentence: str) -> None:
        session.report.alert("warning", "damaged-checkpoint", sentence)
        print(f"warning: {sentence}", file=sys.stderr, flush=True)

    return checkpoint.newest(folder, warn)


def _roll_back(session: Session, folder: RunDir) -> None:
    """Remove the checkpoints that a rollback took back."""
    gone = [step for step in folder.checkpoint_steps() if folder.is_void(step, session.voids)]
    for step in gone:
        checkpoint.remove(folder.checkpoint(step))
    if gone:
        text = ", ".join(map(str, gone))
        session.report.alert(
            "warning", "rolled-back", f"removed the checkpoints of steps {text}: they are void"
        )


def spec_check(session: Session, folder: Path, spec: RunSpec) -> None:
    """Compare the spec with the one a checkpoint was saved under. Raises Failure, alerts on the rest."""
    raw = json.loads((folder / checkpoint.STATE).read_text())
    refused, allowed = spec_changes(raw.get("fingerprint", {}), spec)
    if refused:
        raise _refusal(folder, refused)
    if allowed:
        text = "; ".join(allowed)
        session.report.alert("warning", "spec-changed", f"since {folder.name} was saved, {text}")


def spec_edited(session: Session) -> None:
    """Say so when spec.json is not what the trainer wrote."""
    raw = session.run.spec_raw()
    if spec_hash(raw["spec"]) != raw.get("sha256"):
        session.report.alert(
            "warning", "spec-edited", "spec.json was edited by hand: it does not fit its own hash"
        )


def content_check(saved: Saved, saver: Saver, state: State) -> None:
    """Compare model, code, rows and their order with the checkpoint's. Raises Failure, alerts on the rest."""
    now = saver.fingerprint
    if not saved.fingerprint:
        return
    rows = {name: part["rows"] for name, part in saved.fingerprint.get("data", {}).items()}
    same = rows == {name: part["rows"] for name, part in now["data"].items()}
    orders = orders_digest(saver.cursor, state.visited) if same else []
    changed = content_changes(saved.fingerprint, now, (saved.fingerprint.get("orders"), orders))
    if changed:
        raise _refusal(saved.folder, changed)
    for remark in content_remarks(saved.fingerprint, now):
        saver.session.report.alert(
            "warning", "content-changed", f"since {saved.folder.name}, {remark}"
        )


def _refusal(folder: Path, changes: list[str]) -> Failure:
    return Failure(
        "bad-input",
        f"cannot go on from {folder.name}: {'; '.join(changes)}. Put it back (spec.json, or the files it "
        f"names), or start a new run with model.name = {folder}",
    )
