"""Sampled answers as people compare them: by prompt, best first, with the sizes of their parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from orchestrator.models import Sample
from orchestrator.selectors.samples import newest_groups

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.models import Run

GROUPS_PER_PAGE = 4
EDGES = 4
"""Thicknesses of the coloured edge that shows the size of an advantage."""


@dataclass(frozen=True)
class Answer:
    """One answer with what its card draws."""

    sample: Sample
    count: int
    """How many answers of the group are word for word this one."""
    parts: list[dict[str, Any]]
    edge: int
    sign: str
    tokens: int

    @property
    def behind(self) -> int:
        """Optimizer steps by which the weights that drew it were older than those that learned from it."""
        drawn_by = self.sample.policy_version
        return 0 if drawn_by is None else max(0, self.sample.step - 1 - drawn_by)


@dataclass(frozen=True)
class Group:
    """The answers to one prompt at one step."""

    prompt: str
    prompt_id: str
    step: int
    mean: float | None
    silent: bool
    """Every answer scored the same: the group teaches nothing."""
    size: int
    answers: list[Answer]


def groups_newest(*, run: Run, groups: int = 1) -> list[Group]:
    """The newest answers."""
    return [_group(answers) for answers in newest_groups(run=run, groups=groups) if answers]


def groups_page(*, run: Run, step: int, page: int = 1) -> tuple[list[Group], int]:
    """One page of the groups of a step, and how many groups the step has."""
    of_step = Sample.objects.filter(run=run, step=step)
    newest = of_step.order_by("-attempt").values_list("attempt", flat=True).first()
    of_step = of_step.filter(attempt=newest)
    numbers = sorted(set(of_step.values_list("group", flat=True)))
    begin = (max(page, 1) - 1) * GROUPS_PER_PAGE
    shown = of_step.filter(group__in=numbers[begin : begin + GROUPS_PER_PAGE])
    ordered = shown.order_by("group", "seq")
    found = [_group(list(answers)) for _, answers in groupby(ordered, key=lambda one: one.group)]
    return found, len(numbers)


def sample_steps(run: Run) -> list[int]:
    """The steps that have samples, oldest first."""
    return sorted(set(Sample.objects.filter(run=run).values_list("step", flat=True)))


def _group(answers: Sequence[Sample]) -> Group:
    ordered = sorted(answers, key=lambda one: -_number(one.reward, -math.inf))
    rewards = [one.reward for one in answers if one.reward is not None]
    largest = max((abs(_number(one.advantage, 0.0)) for one in answers), default=0.0)
    scale = _part_scale(answers)
    first = answers[0]
    return Group(
        prompt=first.prompt,
        prompt_id=first.prompt_id,
        step=first.step,
        mean=sum(rewards) / len(rewards) if rewards else None,
        silent=len(rewards) > 1 and len(set(rewards)) == 1,
        size=len(answers),
        answers=[_answer(one, count, largest, scale) for one, count in _distinct(ordered)],
    )


def _distinct(answers: Sequence[Sample]) -> list[tuple[Sample, int]]:
    """Answers that differ in text or score, each with how often it was given."""
    first: dict[tuple[Any, ...], Sample] = {}
    counts: dict[tuple[Any, ...], int] = {}
    for one in answers:
        same = (one.completion, one.reward, one.advantage, one.finish_reason, str(one.rewards))
        first.setdefault(same, one)
        counts[same] = counts.get(same, 0) + 1
    return [(first[same], count) for same, count in counts.items()]


def _answer(sample: Sample, count: int, largest: float, scale: dict[str, float]) -> Answer:
    advantage = _number(sample.advantage, 0.0)
    edge = math.ceil(EDGES * abs(advantage) / largest) if largest and advantage else 0
    parts = [
        {"name": name, "value": value, "width": round(100 * abs(_number(value, 0.0)) / scale[name])}
        for name, value in sample.rewards.items()
    ]
    ids = sample.tokens.get("token_ids") if isinstance(sample.tokens, dict) else None
    sign = "up" if advantage > 0 else "down" if advantage < 0 else "none"
    return Answer(sample, count, parts, edge, sign, len(ids or []))


def _part_scale(answers: Iterable[Sample]) -> dict[str, float]:
    """The full width of each part's bar: its largest size in the group, at least 1."""
    scale: dict[str, float] = {}
    for answer in answers:
        for name, value in answer.rewards.items():
            scale[name] = max(scale.get(name, 1.0), abs(_number(value, 0.0)))
    return scale


def _number(value: Any, other: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return other
