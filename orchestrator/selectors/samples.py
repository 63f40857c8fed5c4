"""Sampled answers of training, filtered and in groups."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.db.models import Q

from orchestrator.models import Run, Sample

PER_PAGE = 50


def samples_list(
    *,
    run: Run,
    step: int | None = None,
    prompt: str | None = None,
    group: int | None = None,
    min_reward: float | None = None,
    max_reward: float | None = None,
    text: str | None = None,
    page: int = 1,
    per_page: int = PER_PAGE,
) -> tuple[list[Sample], int]:
    """One page of a run's samples, newest step first, and how many there are in all."""
    filters: dict[str, Any] = {
        "step": step,
        "prompt_id": prompt,
        "group": group,
        "reward__gte": min_reward,
        "reward__lte": max_reward,
    }
    found = Sample.objects.filter(
        run=run, **{name: value for name, value in filters.items() if value is not None}
    )
    if text:
        found = found.filter(Q(prompt__icontains=text) | Q(completion__icontains=text))
    begin = (max(page, 1) - 1) * per_page
    ordered = found.order_by("-step", "group", "-attempt", "seq")
    return list(ordered[begin : begin + per_page]), found.count()


def newest_groups(*, run: Run, groups: int = 2) -> list[list[Sample]]:
    """The answers to the first prompts of the newest step, one list per prompt."""
    newest = Sample.objects.filter(run=run).order_by("-step", "-attempt").first()
    if newest is None:
        return []
    of_step = Sample.objects.filter(run=run, attempt=newest.attempt, step=newest.step)
    first = sorted(set(of_step.values_list("group", flat=True)))[:groups]
    found = of_step.filter(group__in=first).order_by("group", "seq")
    return [list(answers) for _, answers in groupby(found, key=lambda sample: sample.group)]


def sample_shape(sample: Sample) -> dict[str, Any]:
    """A sample as REST gives it."""
    return {
        "id": sample.pk,
        "attempt": sample.attempt,
        "seq": sample.seq,
        "step": sample.step,
        "prompt_id": sample.prompt_id,
        "group": sample.group,
        "prompt": sample.prompt,
        "completion": sample.completion,
        "finish_reason": sample.finish_reason,
        "reward": sample.reward,
        "rewards": sample.rewards,
        "advantage": sample.advantage,
        "policy_version": sample.policy_version,
        **sample.tokens,
    }
