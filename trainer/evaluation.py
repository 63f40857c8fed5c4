"""What the spec says about measuring on held-out rows, and what of it does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer import registry
from trainer.methods import BASIC
from trainer.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.rulings import Evaluator as AnyEvaluator
    from trainer.spec import RunSpec
else:
    AnyEvaluator = registry.union("evaluators")

WHOLE = {"top_p": 1, "top_k": 0, "min_p": 0}
"""How the whole distribution is sampled from."""


class Evaluation(Section):
    """When and how the model is measured on held-out rows."""

    every_steps: int = Field(50, ge=0, json_schema_extra={**BASIC, "live": True})
    """Steps between evaluations, besides one at the start and one at the end; 0 keeps those two only.
    Unit: steps."""
    samples_per_prompt: int = Field(1, ge=1, le=256)
    """Answers sampled for each held-out prompt; above 1, pass@k is reported too."""
    temperature: float = Field(1.0, ge=0, le=10)
    """Sampling temperature at evaluation; 0 is greedy."""
    max_new_tokens: int = Field(0, ge=0)
    """Longest answer at evaluation; 0 takes the rollout's. Unit: tokens."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling at evaluation keeps the likeliest tokens that sum to this mass. Healthy: 1; what the
    model will be used with."""
    top_k: int = Field(0, ge=0)
    """At evaluation only so many of the likeliest tokens are drawn, before top_p; 0 keeps all. Healthy: 0."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """At evaluation tokens less likely than this share of the likeliest one are never drawn, after top_k and
    top_p; 0 keeps all. Healthy: 0. Source: arXiv 2407.01082."""
    answers: Literal["none", "all"] = "none"
    """`all` journals every answer of a run of kind "evaluate" with its scores and the log-probabilities of its
    tokens, drawn by random numbers that depend on seed, prompt and sample alone: models share them. An answer
    that fails is kept apart, and a run that was killed goes on behind the answers that are there."""
    readings: bool = False
    """A run of kind "evaluate" that samples nothing: it journals the log-probabilities of the answers that its
    rows carry in `_answers`, which another model with the same tokens wrote."""
    judge: AnyEvaluator | None = None
    """A run of kind "evaluate" that loads no model: it asks this judge which of the two answers that its rows
    carry in `_pairs` is better."""


def evaluation_contradictions(spec: RunSpec) -> Iterator[str]:
    """One sentence per contradiction, each begins with the field: `section.field: what to change`."""
    evaluation, alone = spec.evaluation, spec.kind == "evaluate"
    if alone and not spec.data.eval:
        yield "data.eval: an evaluation needs at least one source of held-out rows"
    samples = evaluation.samples_per_prompt
    if samples > 1 and evaluation.temperature == 0:
        yield (
            f"evaluation.temperature: at 0 the {samples} answers to a prompt are one and the same; raise "
            "it, or set evaluation.samples_per_prompt to 1"
        )
    if evaluation.temperature == 0:
        for name, off in WHOLE.items():
            if getattr(evaluation, name) != off:
                yield (
                    f"evaluation.{name}: at a temperature of 0 the likeliest token is taken whatever this says; "
                    f"set it to {off}"
                )
    if not alone:
        for name, asks in (
            ("answers", evaluation.answers != "none"),
            ("readings", evaluation.readings),
            ("judge", evaluation.judge is not None),
        ):
            if asks:
                yield f'evaluation.{name}: is for a run of kind "evaluate"; leave it out'
        return
    yield from _of_the_purpose(spec)


def _of_the_purpose(spec: RunSpec) -> Iterator[str]:
    """An evaluation answers and scores, or reads, or judges."""
    evaluation = spec.evaluation
    if evaluation.readings and evaluation.answers != "none":
        yield 'evaluation.readings: nothing is sampled where answers are read; set answers to "none"'
    if evaluation.judge is not None and (evaluation.readings or evaluation.answers != "none"):
        yield (
            "evaluation.judge: a judge compares answers that are there; set evaluation.answers to "
            '"none" and evaluation.readings to false'
        )
    scored = evaluation.judge is None and not evaluation.readings
    if spec.rewards and not scored:
        yield "rewards: nothing is scored where answers are read or judged; remove the rewards"
    if not spec.rewards and scored and evaluation.answers == "none":
        yield "rewards: an evaluation needs at least one reward to score answers by"
    if evaluation.answers == "all" and spec.data.overlong == "truncate":
        yield (
            "data.overlong: an answer to a prompt that was cut is no answer to the prompt; set it to "
            '"drop", which makes of it a failed item'
        )
