"""Saves a run while it goes on: snapshot here, disk in the writer's thread, journal here again."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from trainer.engine import checkpoint
from trainer.engine.failure import Halt
from trainer.engine.fingerprint import fingerprint, orders_digest
from trainer.engine.parts import part_offer
from trainer.engine.retention import prune
from trainer.engine.snapshot import Snapshot
from trainer.engine.writer import Writer
from trainer.journal import Tail
from trainer.spec import spec_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

    import torch

    from trainer.engine.checkpoint import Label, Published
    from trainer.engine.dataset import Cursor, Part
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.engine.state import State
    from trainer.rundir import RunDir
    from trainer.spec import RunSpec


@dataclass(frozen=True)
class Done:
    """A checkpoint that is on the disk, and what was removed for it."""

    label: Label
    published: Published
    removed: list[int]


@dataclass
class Saver:
    """The checkpoints of one training. Use as a context: leaving it waits for what is being written."""

    session: Session
    spec: RunSpec
    policy: Policy
    optimizer: torch.optim.Optimizer
    cursor: Cursor
    parts: Sequence[Part]
    folder: RunDir
    """Where they go: the run's directory, or that of the warm-up."""
    metric: str
    """By which the best are kept."""
    silent: bool = False
    """The journal does not tell of a warm-up's checkpoints."""
    start: str = ""
    """Digest of the start model's weights."""
    eval_parts: Sequence[Part] = ()

    def __post_init__(self) -> None:
        background = self.spec.checkpoint.background
        self._writer: Writer[Done | None] = Writer(self.session.report.tick, background=background)

    def save(
        self, state: State, buffers: dict[str, torch.Tensor], metrics: dict[str, float], final: bool
    ) -> None:
        """Copy the run as it stands and write the copy. Waits for the save before; raises its error."""
        self._tell(self._writer.wait())
        ranks = self.session.ranks
        if not (ranks.first or ranks.sharded):
            return
        # Where the model is divided, every rank gives its part.
        snapshot = Snapshot.take(
            self.policy,
            self.optimizer,
            state=state.to_json(),
            buffers=buffers,
            fingerprint=self.fingerprint | {"orders": orders_digest(self.cursor, state.visited)},
            ranks=ranks,
        )
        leader = ranks.told(os.getpid()) if ranks.sharded else os.getpid()
        if not ranks.first:
            folder, attempt = self.folder.checkpoint(state.step), self.session.attempt.number
            made_in = checkpoint.made_in(folder, attempt, leader)
            if snapshot.shapes:
                self._writer.start(partial(part_offer, made_in, ranks.rank, snapshot.part))
            return
        label = checkpoint.Label(
            self.session.attempt.number, state.step, metrics, final, self._about
        )
        self._writer.start(partial(self._write, snapshot, label))

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What every state of this training belongs to."""
        return fingerprint(self.spec, self.policy, self.parts, self.start, self.eval_parts)

    @cached_property
    def _about(self) -> dict[str, Any]:
        dtypes = {"dtype": "float32", "stored_dtype": self.policy.stored_dtype}
        return {"weights": dtypes, "spec_sha256": spec_hash(self.spec)}

    def _write(self, snapshot: Snapshot, label: Label) -> Done:
        """In the writer's thread: nothing here touches the journal or a random state."""
        published = checkpoint.publish(
            self.folder.checkpoint(label.step),
            policy=self.policy,
            snapshot=snapshot,
            label=label,
            may_publish=self.session.orders.check_fence,
        )
        removed = prune(self.folder, self.spec.checkpoint, metric=self.metric, step=label.step)
        return Done(label, published, removed)

    def look(self) -> None:
        """Tell the journal of what was finished; raise the error of what failed. Cheap."""
        self._tell(self._writer.finished())

    def finish(self) -> None:
        """Wait until everything is on the disk and told."""
        self._tell(self._writer.wait())

    def announce(self, folder: Path) -> None:
        """Tell of the checkpoint a run goes on from, when its attempt was killed before it could."""
        if not self.session.ranks.first:
            return
        published, manifest = checkpoint.published(folder), checkpoint.manifest_of(folder)
        told = _told(self.session.run)
        if self.silent or any(event["sha256"] == published.sha256 for event in told):
            return
        label = checkpoint.Label(
            manifest["attempt"], manifest["step"], manifest["metrics"], manifest.get("final", False)
        )
        standing: set[int] = set()
        for event in told:
            standing = (standing | {event["step"]}) - set(event["removed"])
        gone = standing - set(self.folder.checkpoint_steps())
        self._tell([Done(label, published, sorted(gone))])

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if error is None or isinstance(error, Halt):
            self.finish()
        elif isinstance(error, Exception):
            try:
                self.finish()
            except (OSError, Halt) as second:
                # The run has ended by the first error: that is the one to be told.
                self.session.report.alert("error", "checkpoint", f"the last save failed: {second}")

    def _tell(self, finished: Sequence[Done | None]) -> None:
        for done in [] if self.silent else finished:
            if done is None:
                # Another rank's part: the first one tells of the whole.
                continue
            self.session.report.checkpoint(
                step=done.label.step,
                path=done.published.path.relative_to(self.session.run.path).as_posix(),
                bytes=done.published.bytes,
                sha256=done.published.sha256,
                metrics=done.label.metrics,
                final=done.label.final,
                removed=done.removed,
            )


def _told(run: RunDir) -> list[dict[str, Any]]:
    """The checkpoint events of every attempt whose journal lies here."""
    found: list[dict[str, Any]] = []
    for number in run.attempts():
        tail = Tail(run.attempt(number).journal("trainer"))
        while lines := tail.read():
            found += [json.loads(line) for line in lines if '"type":"checkpoint"' in line]
    return found
