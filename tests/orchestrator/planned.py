"""Runs with spans, and what their trainers said at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Run, State
from tests.orchestrator.telemetry import T0, push, spans

if TYPE_CHECKING:
    from datetime import datetime

    from orchestrator.models import Node, User

SPEED = {"flops": 2e10, "weights": 650_000.0, "decode_s": 0.001}
GRPO: dict[str, Any] = {
    "name": "sort",
    "kind": "train",
    "objective": {"type": "grpo"},
    "data": {"train": [{"source": "some/dataset"}], "max_prompt_tokens": 20},
    "rewards": [{"type": "exact-match"}],
    "rollout": {"group_size": 4, "max_new_tokens": 8},
    "batch": {"prompts_per_step": 4},
    "evaluation": {"every_steps": 5},
}


def load_line(seq: int = 1, **data: Any) -> dict[str, Any]:
    """What a trainer says when it has loaded."""
    told = {
        "parameters": 651_000, "device": "cpu", "dtype": "float32", "threads": 1,
        "rollout_engine": "native", "speed": SPEED, **data,
    }  # fmt: skip
    head = {"seq": seq, "time": T0, "type": "status", "state": "starting", "phase": "load"}
    return {**head, "step": 0, "data": told}


def planned(run: Run, steps: int = 3, *parts: tuple[str, float], **load: Any) -> Run:
    """Let a run tell of its start and of some steps."""
    lines = [spans(seq, seq - 1, *parts) for seq in range(2, steps + 2)]
    push(run, [load_line(**load), *lines])
    return run


def earlier_run(
    owner: User, node: Node, ended: datetime, *parts: tuple[str, float], **load: Any
) -> Run:
    """A finished run with a plan."""
    run = Run.objects.create(
        name="earlier",
        owner=owner,
        spec=GRPO,
        attempt=1,
        node=node,
        process="alive",
        state="running",
    )
    run.attempts.create(number=1, node=node)
    planned(run, 3, *parts, **load)
    Run.objects.filter(pk=run.pk).update(state=State.FINISHED, process="exited", ended=ended)
    return run
