"""Rules that are given before there is a checkpoint: checked when they are given, not when they act."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from orchestrator.models import Run
from orchestrator.models.promotion_after import START, PromotionAfter
from orchestrator.selectors.reward_models import is_scoring, reward_model_problem
from orchestrator.services.comparison_items import rows_of_sources
from orchestrator.services.comparison_models import candidates_of
from orchestrator.services.comparison_orders import spec_of_order
from orchestrator.services.promotions import rule_checked
from trainer.named_models import reward_models
from trainer.problems import Problem, SpecError, problems_of
from trainer.spec import RUN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

PATH = "promotion"


def after_checked(raw: Mapping[str, Any] | None, spec: Mapping[str, Any]) -> dict[str, Any]:
    """The rule of a run with this spec as it is stored, {} for None. Raises SpecError that names the field.

    What it leaves out is the run's own: held-out rows, rewards, the first reward.
    """
    if raw is None:
        return {}
    try:
        rule = PromotionAfter.model_validate(dict(raw)).model_dump(mode="json")
    except ValidationError as error:
        raise _named(
            [Problem(path=one.path, message=one.message) for one in problems_of(error)]
        ) from error
    if spec["kind"] != "train":
        raise _named(
            [Problem(path="", message="only a run that trains has a checkpoint to approve")]
        )
    if is_scoring(spec):
        raise _named(
            [Problem(path="", message="a reward model writes no answers that could be compared")]
        )
    rule["prompts"] = rule["prompts"] or spec.get("data", {}).get("eval", [])
    rule["scorers"] = rule["scorers"] or [
        {key: value for key, value in one.items() if value is not None}
        for one in spec.get("rewards", [])
    ]
    problems = [
        Problem(path=name, message=f"there is none, and the run has no {own} of its own; name one")
        for name, own in (("prompts", "data.eval"), ("scorers", "rewards"))
        if not rule[name]
    ]
    parsed, wrong = spec_of_order(rule["prompts"], rule["sampling"], rule["scorers"], rule["seed"])
    problems += wrong
    problems += [
        Problem(path=path.replace("rewards", "scorers", 1), message=message)
        for path, name in reward_models({"rewards": rule["scorers"]})
        if (message := reward_model_problem(name))
    ]
    problems += _baseline_problems(rule["baseline"], spec)
    if problems or parsed is None:
        raise _named(problems)
    _, _, wrong = rows_of_sources(rule["prompts"], seed=rule["seed"])
    if wrong:
        raise _named(wrong)
    labels = [str(one.get("name") or one["type"]) for one in rule["scorers"]]
    return rule | rule_checked(
        {**rule, "better_on": rule["better_on"] or labels[0]}, rule["scorers"]
    )


def baseline_named(rule: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """The baseline as a comparison names it."""
    name = str(rule["baseline"])
    return str(spec["model"]["name"]) if name == START else name


def _baseline_problems(baseline: str, spec: Mapping[str, Any]) -> list[Problem]:
    def problem(message: str) -> list[Problem]:
        return [Problem(path="baseline", message=message)]

    if baseline == START and spec["model"].get("warm_start"):
        return problem(
            "the run warms its model up by itself, so that its start is no checkpoint; name a checkpoint:ID "
            "or a run:ID"
        )
    name = baseline_named({"baseline": baseline}, spec)
    if name.startswith(RUN_PREFIX):
        there = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).exists()
        return [] if there else problem(f"there is no {name}")
    _, wrong = candidates_of([name])
    return problem(wrong[0].message) if wrong else []


def _named(problems: list[Problem]) -> SpecError:
    return SpecError(
        [Problem(path=f"{PATH}.{one.path}".rstrip("."), message=one.message) for one in problems]
    )
