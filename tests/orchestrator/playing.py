"""Playgrounds as tests make them: the run at work, and the lines of its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Process, Run, State
from orchestrator.services.playgrounds import playground_open
from tests.orchestrator.answered import checkpoint_add, checkpoint_make
from tests.orchestrator.conftest import attempt_add
from tests.orchestrator.telemetry import T0

if TYPE_CHECKING:
    from orchestrator.models import Node, User


def models_two(owner: User) -> list[str]:
    """Two checkpoints of one run."""
    one = checkpoint_make(owner)
    return [f"checkpoint:{one.pk}", f"checkpoint:{checkpoint_add(one.run, 20).pk}"]


def playground_ready(owner: User, node: Node, models: list[str] | None = None) -> Run:
    """A playground whose models are loaded."""
    run = playground_open(owner=owner, models=models or models_two(owner))
    facts = {"state": State.RUNNING, "process": Process.ALIVE, "phase": "play", "node": node}
    Run.objects.filter(pk=run.pk).update(**facts)
    run.refresh_from_db()
    attempt_add(run, 1)
    run.refresh_from_db()
    return run


def played(
    seq: int, request: int, voice: str = "a", index: int = 0, **fields: Any
) -> dict[str, Any]:
    """A line of the samples journal, as a playground writes it."""
    return {
        "seq": seq,
        "time": T0 + seq,
        "type": "played",
        "request": request,
        "voice": voice,
        "index": index,
        "text": "12",
        "token_ids": [5, 6],
        "pieces": ["1", "2"],
        "logps": [-0.5, -0.25],
        "finish_reason": "stop",
        "problem": "",
        "readings": {"a": [-0.5, -0.25], "b": [-2.0, "-Infinity"]},
        **fields,
    }
