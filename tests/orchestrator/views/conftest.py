"""A finished GRPO run as people look at it, and browsers signed in as people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.test import Client
from django.utils import timezone

from orchestrator.models import Checkpoint, Event, Node, Process, Run, State, User
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import metrics, push, sample
from trainer.spec import spec_hash, spec_parse

if TYPE_CHECKING:
    from collections.abc import Callable

GRPO: dict[str, Any] = {
    "name": "sort-grpo",
    "objective": {"type": "grpo"},
    "rewards": [{"type": "exact-match"}],
    "data": {
        "train": [{"source": "noisy-sort"}],
        "eval": [{"source": "noisy-sort", "split": "test"}],
    },
    "budget": {"max_steps": 40},
}
STEPS = 40


@pytest.fixture
def browser_of() -> Callable[[User], Client]:
    """A browser signed in as a person."""

    def signed_in(user: User) -> Client:
        client = Client()
        client.force_login(user)
        return client

    return signed_in


@pytest.fixture
def finished(ada: User, node: Node) -> Run:
    """A GRPO run that ran all its steps, with curves, answers, a checkpoint and a log."""
    launched = spec_parse(GRPO).model_dump(mode="json")
    effective = {**launched, "model": {**launched["model"], "dtype": "float32"}}
    run = Run.objects.create(
        name="sort-grpo",
        owner=ada,
        tags=["demo"],
        spec=launched,
        effective_spec=effective,
        spec_hash=spec_hash(effective),
        node=node,
        attempt=1,
        process=Process.ALIVE,
        state=State.RUNNING,
        step=STEPS,
        total_steps=STEPS,
        started=timezone.now(),
    )
    attempt_add(run, 1)
    push(run, [_step(seq) for seq in range(1, STEPS + 1)])
    push(run, [_answer(seq) for seq in range(1, 5)], source="samples", first=1)
    Checkpoint.objects.create(
        run=run, attempt=1, step=20, path="checkpoints/step-20", sha256="0" * 64, bytes=2_711_552,
        metrics={"eval/reward": 0.7},
    )  # fmt: skip
    Checkpoint.objects.create(
        run=run, attempt=1, step=40, path="checkpoints/step-40", sha256="0" * 64, bytes=2_711_552,
        metrics={"eval/reward": 0.6}, final=True,
    )  # fmt: skip
    Event.objects.create(
        run=run, source="server", time=timezone.now(), type="status",
        data={"state": "queued", "reason": "launched", "by": "ada"},
    )  # fmt: skip
    Run.objects.filter(pk=run.pk).update(
        process=Process.EXITED, cause="finished", state=State.FINISHED, ended=timezone.now()
    )
    run.refresh_from_db()
    return run


def _step(seq: int) -> dict[str, Any]:
    reward = 0.3 + 0.5 * seq / STEPS
    values: dict[str, Any] = {"reward": reward, "loss": 0.01, "grad_norm": 0.5, "entropy": 0.4}
    if seq % 20 == 0:
        values |= {"eval/reward": reward, "eval/accuracy": reward}
    return metrics(seq, **values)


def _answer(seq: int) -> dict[str, Any]:
    right = seq in (2, 3)
    return sample(
        seq,
        step=STEPS,
        prompt="sort 312 =",
        completion="123" if right else "<script>alert(1)</script>",
        reward=float(right),
        rewards={"exact-match": float(right), "length": -0.1},
        advantage=0.9 if right else -0.9,
    )
