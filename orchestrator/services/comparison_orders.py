"""What somebody asks to compare, checked: which models, on which prompts, sampled and scored how."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.models.comparison import ARMS_MOST
from orchestrator.selectors.comparisons import DIGEST
from orchestrator.services.comparison_items import rows_of_sources
from orchestrator.services.comparison_models import Candidate, candidates_of
from orchestrator.services.comparison_scorers import scorers_fixed
from trainer.answering import scorer_digests
from trainer.problems import Problem, SpecError
from trainer.spec import RunSpec, spec_parse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.services.comparison_items import Prompt

NAME_MOST = 120
ARMS_LEAST = 2
ANSWERS_MOST = 1_000_000
SEED_END = 2**31
SAMPLING = {
    "samples": "samples_per_prompt",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_new_tokens": "max_new_tokens",
}
"""Our name -> the field of `[evaluation]`."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Order:
    """A comparison that can be made."""

    name: str
    models: list[Candidate]
    prompts: list[dict[str, Any]]
    rows: list[Prompt]
    sampling: dict[str, Any]
    scorers: list[dict[str, Any]]
    """Knobs, each with the digest by which its scores are found."""
    seed: int
    told: list[str] = field(default_factory=list)
    """What was left out of the prompts, in sentences."""


def order_checked(
    *,
    checkpoints: Sequence[str],
    prompts: Sequence[dict[str, Any]],
    sampling: dict[str, Any],
    scorers: Sequence[dict[str, Any]],
    seed: int = 0,
    name: str = "",
) -> Order:
    """The order with everything that it names found. Raises SpecError with one problem per faulty field."""
    problems = _counts_wrong(checkpoints, prompts, scorers, seed)
    models, wrong = candidates_of(checkpoints)
    problems += wrong
    spec, wrong = spec_of_order(prompts, sampling, scorers, seed)
    problems += wrong
    if problems or spec is None:
        raise SpecError(problems)
    sources = [source.model_dump(mode="json") for source in spec.data.eval]
    rows, told, wrong = rows_of_sources(sources, seed=seed)
    problems += wrong
    fixed, wrong = scorers_fixed([one.model_dump(mode="json") for one in spec.rewards])
    problems += wrong
    asked = {ours: getattr(spec.evaluation, theirs) for ours, theirs in SAMPLING.items()}
    answers = len(rows) * len(models) * int(asked["samples"])
    if answers > ANSWERS_MOST:
        problems.append(
            Problem(
                path="sampling.samples",
                message=f"{len(rows):,} prompts x {asked['samples']} samples x {len(models)} models are "
                f"{answers:,} answers; {ANSWERS_MOST:,} are the most: lower samples or a source's limit",
            )
        )
    if problems:
        raise SpecError(problems)
    return Order(
        name=name_checked(name) or _name_of(models),
        models=models,
        prompts=sources,
        rows=rows,
        sampling=asked,
        scorers=scorers_pinned(fixed),
        seed=seed,
        told=told,
    )


def scorers_pinned(scorers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The knobs of scorers, each with the digest that its scores have with the code that is here now."""
    plain = [
        {key: value for key, value in knobs.items() if key != DIGEST and value is not None}
        for knobs in scorers
    ]
    digests = scorer_digests(plain)
    return [{**knobs, DIGEST: digests[str(knobs.get("name") or knobs["type"])]} for knobs in plain]


def name_checked(name: str) -> str:
    """A name that pages can show."""
    return _CONTROL.sub(" ", name).strip()[:NAME_MOST].strip()


def evaluation_spec(
    *,
    model: str,
    prompts: Sequence[dict[str, Any]],
    sampling: dict[str, Any],
    scorers: Sequence[dict[str, Any]],
    seed: int,
    name: str = "",
) -> dict[str, Any]:
    """The run that makes one arm's answers, as a spec."""
    evaluation = {theirs: sampling[ours] for ours, theirs in SAMPLING.items() if ours in sampling}
    return {
        "kind": "evaluate",
        "name": name,
        "seed": seed,
        "model": {"name": model},
        "data": {"eval": list(prompts)},
        "rewards": [{k: v for k, v in knobs.items() if k != DIGEST} for knobs in scorers],
        "evaluation": {**evaluation, "answers": "all"},
    }


def _counts_wrong(
    checkpoints: Sequence[str],
    prompts: Sequence[dict[str, Any]],
    scorers: Sequence[dict[str, Any]],
    seed: int,
) -> list[Problem]:
    found = []
    if not ARMS_LEAST <= len(checkpoints) <= ARMS_MOST:
        words = f"{len(checkpoints)} given; a comparison has {ARMS_LEAST} to {ARMS_MOST} models"
        found.append(Problem(path="checkpoints", message=words))
    if not prompts:
        found.append(Problem(path="prompts", message="there are none; name at least one source"))
    if not scorers:
        words = "there is none; without a scorer nothing tells which answer is better"
        found.append(Problem(path="scorers", message=words))
    if not 0 <= seed < SEED_END:
        found.append(Problem(path="seed", message=f"must be from 0 to {SEED_END - 1}"))
    return found


def spec_of_order(
    prompts: Sequence[dict[str, Any]],
    sampling: dict[str, Any],
    scorers: Sequence[dict[str, Any]],
    seed: int,
) -> tuple[RunSpec | None, list[Problem]]:
    """The spec that all arms share, or what is wrong with the order in the order's own words."""
    unknown = sorted(set(sampling) - set(SAMPLING))
    if unknown:
        words = f"there is no such setting; use {', '.join(SAMPLING)}"
        return None, [Problem(path=f"sampling.{unknown[0][:60]}", message=words)]
    if not prompts or not scorers:
        return None, []
    spec = evaluation_spec(
        model="starter", prompts=prompts, sampling=sampling, scorers=scorers, seed=max(0, seed)
    )
    try:
        return spec_parse(spec), []
    except SpecError as error:
        return None, [
            Problem(path=as_asked(one.path), message=_in_our_words(one.message))
            for one in error.problems
        ]


def as_asked(path: str) -> str:
    """A field of a spec as the field of an order that it came from."""
    for theirs, ours in (("data.eval", "prompts"), ("rewards", "scorers")):
        if path == theirs or path.startswith(f"{theirs}."):
            return ours + path.removeprefix(theirs)
    field = path.removeprefix("evaluation.").removeprefix("rollout.")
    known = {theirs: ours for ours, theirs in SAMPLING.items()}
    return f"sampling.{known[field]}" if field in known else path


def _in_our_words(message: str) -> str:
    for ours, theirs in SAMPLING.items():
        message = message.replace(f"evaluation.{theirs}", f"sampling.{ours}")
    return message


def _name_of(models: Sequence[Candidate]) -> str:
    others = ", ".join(model.name for model in models[1:])
    return f"{models[0].name} against {others}"[:NAME_MOST]
