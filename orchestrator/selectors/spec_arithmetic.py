"""The arithmetic of a run in words, and what can honestly be forecast of it."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING, Any

from trainer import registry

if TYPE_CHECKING:
    from trainer.spec import DataSource, RunSpec

STARTER = "starter"
_LOOKED_AT = 64
"""Rows of a built-in source that are made to see how long they are."""


def sentences(spec: RunSpec) -> list[str]:
    """What one step and the whole run amount to, one sentence each."""
    if spec.kind == "play":
        return [
            f"{len(spec.play.models)} models are loaded and answer prompts, until the run is stopped or nobody "
            f"has asked for {spec.play.idle_minutes:g} minutes."
        ]
    if spec.kind == "evaluate":
        return _evaluation(spec)
    found = [_step(spec), _shared(spec), _passes(spec), _whole(spec)]
    if spec.waits_for:
        found.insert(0, f"Starts when run {spec.waits_for} has its final checkpoint.")
    if spec.model.warm_start:
        found.insert(
            0, f"First the recipe {spec.model.warm_start} runs as a warm-up, outside this budget."
        )
    return [one for one in [*found, *_evaluation(spec), _checkpoints(spec)] if one]


def forecast(spec: RunSpec | None) -> dict[str, Any]:
    """Steps and tokens as far as the spec decides them; the rest is None until something is known."""
    if spec is None or spec.kind != "train":
        return dict.fromkeys(("steps", "tokens", "memory_mb", "disk_mb", "minutes"))
    steps = spec.budget.max_steps or None
    return {
        "steps": steps,
        "tokens": steps * tokens_per_step(spec) if steps else None,
        "memory_mb": None,
        "disk_mb": None,
        "minutes": None,
    }


def tokens_per_step(spec: RunSpec) -> int:
    """The most tokens that one optimizer step can see."""
    rows = _rows(spec)
    if spec.online:
        return (
            rows * spec.rollout.group_size * (prompt_tokens(spec)[0] + spec.rollout.max_new_tokens)
        )
    sides = 2 if spec.objective.learns_from == "pairs" else 1
    return rows * sides * row_tokens(spec)[0]


def prompt_tokens(spec: RunSpec) -> tuple[int, bool]:
    """The longest prompt, and whether it was seen rather than only bounded."""
    return _longest(spec, ("prompt",), spec.data.max_prompt_tokens)


def row_tokens(spec: RunSpec) -> tuple[int, bool]:
    """The longest prompt with its answer, and whether it was seen."""
    return _longest(spec, ("prompt", "completion"), spec.data.max_tokens)


def _longest(spec: RunSpec, columns: tuple[str, ...], bound: int) -> tuple[int, bool]:
    lengths = [_seen(item, columns) for item in spec.data.train]
    spelled = spec.model.name == STARTER and spec.model.options.get("tokenizer") in (
        None,
        "characters",
    )
    if not spelled or not lengths or not all(lengths):
        return bound, False
    # One token a character, and one that ends the text.
    return min(bound, max(lengths) + 1), True


def _seen(item: DataSource, columns: tuple[str, ...]) -> int:
    """The longest of a few rows of a built-in source, in characters; 0 for any other source."""
    method = registry.family("data").get(item.source)
    if method is None or not issubclass(method, registry.Source) or item.transform is not None:
        return 0
    try:
        source = method(type=item.source, **item.options)  # type: ignore[call-arg]
        rows = list(islice(source.rows(item.split, 0), _LOOKED_AT))
        return max((sum(len(str(row.get(c, ""))) for c in columns) for row in rows), default=0)
    except Exception:  # a user's own source may fail in any way; its length is then unknown
        return 0


def _rows(spec: RunSpec) -> int:
    """Prompts, pairs or rows of one optimizer step: of a divided batch its largest part."""
    return math.ceil(spec.batch.prompts_per_step / spec.batch.minibatches)


def _step(spec: RunSpec) -> str:
    rows, group = _rows(spec), spec.rollout.group_size
    total, size = tokens_per_step(spec), spec.batch.tokens_per_microbatch
    passes = f"at least {_number(math.ceil(total / size))}" if total > size else "1"
    noun = "micro-batch" if passes == "1" else "micro-batches"
    tail = f"in {passes} {noun} of up to {_number(size)}"
    if spec.online:
        prompt, seen = prompt_tokens(spec)
        words = "about" if seen else "at most"
        head = f"{_number(rows)} prompts × {group} answers = {_number(rows * group)} answers a step"
        each = (
            f"{_number(prompt)} prompt + {_number(spec.rollout.max_new_tokens)} answer tokens each"
        )
        return f"{head}, {words} {_number(total)} tokens ({each}), {tail}."
    row, seen = row_tokens(spec)
    words = "about" if seen else "at most"
    pairs = spec.objective.learns_from == "pairs"
    head = (
        f"{_number(rows)} pairs × 2 sides = {_number(2 * rows)} answers a step"
        if pairs
        else f"{_number(rows)} rows a step"
    )
    return f"{head}, {words} {_number(total)} tokens ({_number(row)} each), {tail}."


def _whole(spec: RunSpec) -> str:
    budget = spec.budget
    limits = []
    if budget.max_epochs:
        limits.append(f"{budget.max_epochs:g} passes over the rows")
    if budget.max_minutes:
        limits.append(f"{budget.max_minutes:g} minutes")
    if not budget.max_steps:
        return f"Ends after {' or '.join(limits)}, whichever comes first." if limits else ""
    steps, rows = budget.max_steps, budget.max_steps * spec.batch.prompts_per_step
    if spec.online:
        rows //= spec.batch.updates_per_rollout * spec.batch.minibatches
        answers = rows * spec.rollout.group_size
        made = f"{_number(rows)} prompts, {_number(answers)} answers"
    else:
        made = f"{_number(rows)} {'pairs' if spec.objective.learns_from == 'pairs' else 'rows'}"
    tokens = steps * tokens_per_step(spec)
    tail = f" Ends earlier after {' or '.join(limits)}." if limits else ""
    return f"{_number(steps)} steps = {made}, up to {_number(tokens)} tokens.{tail}"


def _shared(spec: RunSpec) -> str:
    """Who does how much of a step, where several processes train."""
    world, rows = spec.resources.world, _rows(spec)
    if world == 1:
        return ""
    least, most = rows // world, -(-rows // world)
    each = _number(least) if least == most else f"{_number(least)} or {_number(most)}"
    noun = "prompts" if spec.online else "rows"
    parts = ", and the model is divided among them" if spec.resources.sharding == "full" else ""
    where = f" on {spec.resources.nodes} machines" if spec.resources.nodes > 1 else ""
    return f"{world} processes{where} share each step, {each} {noun} each{parts}."


def _passes(spec: RunSpec) -> str:
    passes, parts = spec.batch.updates_per_rollout, spec.batch.minibatches
    if not spec.online or passes * parts == 1:
        return ""
    how = f": {passes} passes in {parts} parts" if parts > 1 and passes > 1 else ""
    how = how or (", a part of it in each" if parts > 1 else "")
    return f"Each batch of answers is used for {passes * parts} optimizer steps{how}."


def _evaluation(spec: RunSpec) -> list[str]:
    if not spec.data.eval:
        return []
    rows = sum(item.limit for item in spec.data.eval)
    whole = any(item.limit == 0 for item in spec.data.eval)
    count = "all held-out rows" if whole else f"{_number(rows)} held-out rows"
    each = spec.evaluation.samples_per_prompt
    count += f" × {each} answers" if each > 1 else ""
    if spec.kind == "evaluate":
        return [f"{spec.model.name} is measured once on {count}."]
    every, steps = spec.evaluation.every_steps, spec.budget.max_steps
    if not every or (steps and every >= steps):
        return [f"Evaluation on {count}, at the start and at the end."]
    times = f" ({_number(1 + math.ceil(steps / every))} times)" if steps else ""
    return [
        f"Evaluation on {count}, at the start, every {_number(every)} steps and at the end{times}."
    ]


def _checkpoints(spec: RunSpec) -> str:
    policy = spec.checkpoint
    if not policy.every_steps:
        return "One checkpoint, at the end."
    kept = [f"the newest {policy.keep_last}" if policy.keep_last > 1 else "the newest"]
    if policy.keep_best and spec.data.eval:
        kept.append(f"the best {policy.keep_best}" if policy.keep_best > 1 else "the best")
    return (
        f"A checkpoint every {_number(policy.every_steps)} steps; "
        f"{', '.join(kept)} and the final one are kept."
    )


def _number(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")
