"""What a step should take, before it was measured: from earlier runs where there are any, else from arithmetic.

Seconds of a phase are taken to be in proportion to its work, which the spec decides. Earlier runs give the
seconds of a unit of work; arithmetic gives them for passes of the model alone. For any other phase there is no
sound basis, and so no number. (A light form of the cost models of ReaLHF, arXiv 2406.14088, and vTrain, arXiv
2312.12391.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.selectors.plan_path import median
from orchestrator.selectors.spec_arithmetic import prompt_tokens, tokens_per_step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.spec import RunSpec

SAMPLING_FACTOR = 8
"""Tokens that the native engine samples at once, in micro-batches."""
MOVED = 1.5
"""Work that differs by more than this factor from an earlier run's is beyond what a proportion can tell."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of a phase in a step that has it, and where the number comes from."""

    seconds: float
    basis: str


@dataclass(frozen=True)
class Speed:
    """What the trainer measured of its machine at the start."""

    flops: float
    """Operations a second of a large matrix product."""
    weights: float
    """Weights that a token meets."""
    decode: float | None = None
    """Seconds of a forward pass over one token; None where another engine samples."""
    shared: bool = False
    """The answers to a prompt share one copy of it in training."""


def work_of(spec: RunSpec) -> dict[str, float]:
    """Units of work of each phase in a step that has it; what the spec leaves open is missing."""
    found: dict[str, float] = {"sync": 1, "checkpoint": 1}
    found["data"] = spec.batch.prompts_per_step
    found["update"] = tokens_per_step(spec)
    answers = spec.batch.prompts_per_step * spec.rollout.group_size
    if spec.online:
        found["rollout"] = answers * spec.rollout.max_new_tokens
        found["reward"] = answers
        found["logprob"] = found["update"] * spec.batch.minibatches
    elif "reference" in spec.objective.uses:
        found["logprob"] = found["update"]
    rows = _eval_rows(spec)
    if rows:
        found["eval"] = rows * spec.evaluation.samples_per_prompt * _eval_tokens(spec)
    return found


def arithmetic(spec: RunSpec, speed: Speed) -> dict[str, Estimate]:
    """The phases that are passes of the model: 6 operations a weight and token to learn from it, 2 to read it."""
    if not (speed.flops > 0 and speed.weights > 0):
        return {}
    at = f"at {_si(speed.flops)}FLOP/s of the start's probe"
    unit = speed.weights / speed.flops
    found: dict[str, Estimate] = {}
    if spec.kind != "evaluate":
        tokens = _tokens(spec, speed)
        words = f"6 operations a weight and token {at}, {tokens:,} tokens at most"
        found["update"] = Estimate(6 * unit * tokens, f"from arithmetic: {words}")
        if "reference" in spec.objective.uses:
            tokens = tokens * spec.batch.minibatches if spec.online else tokens
            words = f"2 operations a weight and token {at}, {tokens:,} tokens at most"
            found["logprob"] = Estimate(2 * unit * tokens, f"from arithmetic: {words}")
    if speed.decode is None:
        return found
    if spec.kind != "evaluate" and spec.online:
        batch, rollout = spec.batch.prompts_per_step, spec.rollout
        found["rollout"] = _sampling(
            spec, speed, batch, rollout.group_size, rollout.max_new_tokens, speed.decode
        )
    rows = _eval_rows(spec)
    if rows and _samples_eval(spec):
        each = spec.evaluation.samples_per_prompt
        found["eval"] = _sampling(spec, speed, rows, each, _eval_tokens(spec), speed.decode)
    return found


def _tokens(spec: RunSpec, speed: Speed) -> int:
    """The most tokens that an optimizer step learns from."""
    if not (spec.online and speed.shared):
        return tokens_per_step(spec)
    prompts = math.ceil(spec.batch.prompts_per_step / spec.batch.minibatches)
    prompt, _ = prompt_tokens(spec)
    return prompts * (prompt + spec.rollout.group_size * spec.rollout.max_new_tokens)


def _sampling(
    spec: RunSpec, speed: Speed, prompts: int, each: int, longest: int, decode: float
) -> Estimate:
    """Decoding: its steps one after the other, and 2 operations a weight and token, a prompt's once."""
    prompt, _ = prompt_tokens(spec)
    room = SAMPLING_FACTOR * spec.batch.tokens_per_microbatch
    at_once = max(1, room // (each * (prompt + longest)))
    steps = math.ceil(prompts / at_once) * longest
    tokens = prompts * (prompt + each * longest)
    seconds = steps * decode + 2 * speed.weights * tokens / speed.flops
    words = (
        f"{steps:,} decoding steps of {1000 * decode:.2g} ms, and 2 operations a weight and token at "
        f"{_si(speed.flops)}FLOP/s of the start's probe, answers of full length"
    )
    return Estimate(seconds, f"from arithmetic: {words}")


def from_earlier(
    work: Mapping[str, float], earlier: Sequence[tuple[Mapping[str, float], Mapping[str, float]]]
) -> dict[str, Estimate]:
    """Scaled from (work, seconds) of earlier runs, phase by phase; runs of far more or less work are left out."""
    found = {}
    for phase, units in work.items():
        rates = [
            seconds[phase] / done[phase]
            for done, seconds in earlier
            if phase in seconds and done.get(phase) and _alike(units, done[phase])
        ]
        if rates:
            count = "1 earlier run" if len(rates) == 1 else f"{len(rates)} earlier runs"
            seconds = median([(rate, 1) for rate in rates]) * units
            words = f"from {count} of this size on this kind of node"
            found[phase] = Estimate(seconds, words)
    return found


def _alike(units: float, done: float) -> bool:
    return 1 / MOVED <= units / done <= MOVED


def _eval_rows(spec: RunSpec) -> int:
    """Held-out rows of one evaluation; 0 where the spec leaves that open or has none."""
    if any(item.limit == 0 for item in spec.data.eval):
        return 0
    return sum(item.limit for item in spec.data.eval)


def _samples_eval(spec: RunSpec) -> bool:
    """Whether evaluation does nothing but sample answers and grade them."""
    return bool(spec.rewards) and (spec.kind == "evaluate" or spec.online)


def _eval_tokens(spec: RunSpec) -> int:
    return spec.evaluation.max_new_tokens or spec.rollout.max_new_tokens


def _si(value: float) -> str:
    """With the letter of its size: "48 G"."""
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return f"{value:.3g} "
