"""What the rules of the plan look at, from the raw spec of a run: it may be older than today's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Attempt
from orchestrator.selectors.plan_path import path_process, path_shares, phase_times
from orchestrator.selectors.plan_rules import Facts
from orchestrator.selectors.run_words import spec_of
from trainer.spans import WAIT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Run
    from orchestrator.selectors.plan_basis import Start
    from orchestrator.selectors.plan_lines import StepLine

MIB = 2**20


def facts_of(run: Run, start: Start | None, lines: Sequence[StepLine]) -> Facts:
    """What the rules look at; `start` is what the trainer said when it had loaded."""
    spec = spec_of(run)
    train = spec.get("kind", "train") == "train"
    batch, saving = _section(spec, "batch"), _section(spec, "checkpoint")
    node = run.node.inventory if run.node else {}
    field, bound = _staleness(spec)
    rewards = spec.get("rewards")
    return Facts(
        path=path_shares(lines),
        waits={time.process: time.share for time in phase_times(lines) if time.phase == WAIT},
        learner=path_process(lines) or "",
        staleness_field=field,
        staleness=bound,
        engine=start.engine if start else str(_section(spec, "rollout").get("engine", "")),
        gpu=start.gpu if start else False,
        node_engines=frozenset(node.get("engines") or ()),
        packing=str(batch.get("packing", "rows")),
        padding=_number(run.latest.get("batch/pad_frac")),
        micro_batches=_micro_batches(run, batch),
        memory_left=_memory_left(run),
        rewards=tuple(str(one.get("type")) for one in rewards or [] if isinstance(one, dict)),
        beta=_number(_section(spec, "objective").get("beta")) or 0.0,
        evaluates=_whole_number(_section(spec, "evaluation").get("every_steps")) if train else 0,
        saves=_whole_number(saving.get("every_steps")) if train else 0,
        background=saving.get("background") is not False,
    )


def _staleness(spec: dict[str, Any]) -> tuple[str, float]:
    """The knob that bounds how old samples may be, and its value; "" where the spec has none."""
    for name, section in spec.items():
        for knob, value in section.items() if isinstance(section, dict) else ():
            if "staleness" in knob and (bound := _number(value)) is not None:
                return f"{name}.{knob}", bound
    return "", 0.0


def _micro_batches(run: Run, batch: dict[str, Any]) -> float | None:
    """Forward passes of a step, from the tokens that were processed so far."""
    tokens, room = (
        _number(run.latest.get("num_tokens")),
        _number(batch.get("tokens_per_microbatch")),
    )
    return tokens / run.step / room if tokens and room and run.step else None


def _memory_left(run: Run) -> float | None:
    """Share of its GPU's memory that the trainer never used."""
    used = _number(run.latest.get("gpu_mem_mb"))
    if used is None or run.node is None:
        return None
    attempt = Attempt.objects.filter(run=run, number=run.attempt).first()
    if attempt is None or not attempt.gpus:
        return None
    cards = [gpu for gpu in run.node.inventory.get("gpus") or [] if gpu["index"] in attempt.gpus]
    room = min((_number(gpu.get("memory")) or 0 for gpu in cards), default=0)
    return max(0.0, 1 - used * MIB / room) if room else None


def _section(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if fits else None


def _whole_number(value: Any) -> int:
    return int(_number(value) or 0)
