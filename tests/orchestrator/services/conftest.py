"""Nodes that have joined, runs that were launched, and the messages that would go out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.utils import timezone

from orchestrator.models import Checkpoint, Node, Run
from orchestrator.services import dispatch
from orchestrator.services.claims import run_claim
from orchestrator.services.outcomes import Ending, attempt_end
from orchestrator.services.placement import schedule
from orchestrator.services.runs import run_create
from orchestrator.services.tokens import digest_of
from tests.orchestrator.conftest import SPEC
from tests.orchestrator.telemetry import metrics, push, sample
from trainer import registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.models import User


@pytest.fixture(autouse=True)
def messages(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[Any], str]]:
    """What was sent: task, arguments, queue. Nothing reaches a broker."""
    sent: list[tuple[str, list[Any], str]] = []

    def send(task: str, *, args: list[Any], queue: str, **options: Any) -> None:
        sent.append((task.rpartition(".")[2], args, queue))

    monkeypatch.setattr(dispatch.app, "send_task", send)
    return sent


@pytest.fixture
def joined(db: None) -> Callable[..., Node]:
    """Make a node that is there: `joined("n1", slots=2, gpus=[...])`."""

    def make(
        name: str = "n1", slots: int = 1, labels: list[str] | None = None, **have: Any
    ) -> Node:
        now = timezone.now()
        software = {"processes": 8, "methods": registry.hashes()}
        place = {"host": "box", "address": "127.0.0.1"}
        inventory = {"cpus": 4, "gpus": [], **place, **software, **have}
        return Node.objects.create(
            name=name,
            token_digest=digest_of(f"token of {name}"),
            slots=slots,
            labels=labels or [],
            inventory=inventory,
            joined=now,
            last_seen=now,
            heard_since=now,
            instance=f"instance of {name}",
            local=True,
        )

    return make


DPO: dict[str, Any] = {
    "objective": {"type": "dpo"},
    "data": {"train": [{"source": "noisy-sort"}]},
}
"""Parts of a spec that compares with a reference."""


@pytest.fixture
def launch(ada: User) -> Callable[..., Run]:
    """Launch a run of ada's: `launch("b", owner=bob, resources={"gpus": 1})`."""

    def make(name: str = "tiny", owner: User | None = None, **words: Any) -> Run:
        options = {key: words.pop(key) for key in ("priority", "max_restarts") if key in words}
        spec = {**SPEC, "name": name, **words}
        return run_create(owner=owner or ada, spec=spec, **options)

    return make


@pytest.fixture
def working(joined: Callable[..., Node], launch: Callable[..., Run]) -> Callable[..., Run]:
    """Launch a run and let a node claim it."""

    def make(**words: Any) -> Run:
        node = Node.objects.first() or joined()
        run = launch(**words)
        assert schedule() == 1
        assert run_claim(node=node, run_id=run.pk, attempt=1) is not None
        run.refresh_from_db()
        return run

    return make


@pytest.fixture
def ended(working: Callable[..., Run]) -> Callable[..., Run]:
    """A run that trained, with rows of every kind, and files on the server's disk."""

    def make(**words: Any) -> Run:
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
