"""Launch evaluation runs for the answers of a comparison that nobody has made yet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.files.base import ContentFile
from django.db import transaction

from orchestrator.models import ENDED, Answer, Arm, ArmRun, Comparison, Item, Run, Score
from orchestrator.selectors.comparisons import (
    DIGEST,
    samples_of,
    sampling_key,
    scorers_of,
)
from orchestrator.services.comparison_models import digest_now
from orchestrator.services.comparison_orders import as_asked, evaluation_spec, scorers_pinned
from orchestrator.services.comparison_scorers import scorers_fixed
from orchestrator.services.datasets import dataset_upload
from orchestrator.services.runs import run_create
from trainer.answering import ANSWERS as ANSWERS_COLUMN
from trainer.answering import SAMPLES
from trainer.problems import Problem, SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Dataset, User

TAG = "comparison"
PURPOSE = "answers"


def comparison_launch(*, comparison_id: str, user: User) -> list[Run]:
    """Launch one run for each model whose answers are missing and on which nothing works yet.

    Asked again it launches nothing twice. Raises SpecError when a model cannot be started, ValueError for an
    imported comparison.
    """
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        if comparison.imported:
            raise ValueError(
                "The answers of this comparison came from a file: nothing is made for it."
            )
        _scorers_refresh(comparison)
        if comparison.stopped is not None:
            comparison.stopped = None
            comparison.save(update_fields=["stopped"])
        launched: dict[str, Run] = {}
        for arm in comparison.arms.order_by("position"):
            run = launched.get(arm.digest) or _arm_launch(comparison, arm, user)
            if run is not None:
                launched[arm.digest] = run
                ArmRun.objects.create(arm=arm, run=run, purpose=PURPOSE)
    return list(launched.values())


def runs_live(comparison: Comparison) -> list[Run]:
    """Runs of it that have not ended."""
    found = Run.objects.filter(arm_runs__arm__comparison=comparison).exclude(state__in=ENDED)
    return list(found.distinct())


def _arm_launch(comparison: Comparison, arm: Arm, user: User) -> Run | None:
    busy = ArmRun.objects.filter(
        arm__comparison=comparison, arm__digest=arm.digest, purpose=PURPOSE
    )
    if busy.exclude(run__state__in=ENDED).exists():
        return None
    rows = missing_rows(comparison, arm)
    if not rows:
        return None
    unchanged_check(arm)
    prompts = rows_store(rows, f"Prompts of {comparison.name}", user)
    spec = evaluation_spec(
        model=arm.model,
        prompts=[{"source": prompts.pk, "split": "test"}],
        sampling=comparison.sampling,
        scorers=comparison.scorers,
        seed=comparison.seed,
        name=f"{arm.name} answers"[:120],
    )
    try:
        return run_create(owner=user, spec=spec, tags=[TAG])
    except SpecError as error:
        place = f"checkpoints.{arm.position}"
        raise SpecError(
            [
                Problem(
                    path=place if one.path.startswith("model") else as_asked(one.path),
                    message=one.message,
                )
                for one in error.problems
            ]
        ) from error


def unchanged_check(arm: Arm) -> None:
    """Raises SpecError where a folder holds other files than when the comparison was made.

    What they would say or read now belongs to another model.
    """
    if arm.facts.get("shared") and digest_now(arm.model) not in ("", arm.digest):
        words = f"the files of {arm.model} changed since this was made: make a new comparison of it"
        raise SpecError([Problem(path=f"checkpoints.{arm.position}", message=words)])


def missing_rows(comparison: Comparison, arm: Arm) -> list[dict[str, Any]]:
    """Rows of the prompts whose answers or scores are missing, each with the samples that are wanted.

    They come in the order of their digests, which is random with regard to scores: looking early at what has
    arrived is looking at a drawn sample.
    """
    samples, wanted = samples_of(comparison), set(scorers_of(comparison).values())
    items = Item.objects.filter(comparison=comparison)
    answers = Answer.objects.filter(
        model=arm.digest,
        sampling=sampling_key(comparison),
        index__lt=samples,
        item__in=items.values("digest"),
    )
    scored: dict[int, set[str]] = {}
    for answer, scorer in Score.objects.filter(answer__in=answers, scorer__in=wanted).values_list(
        "answer_id", "scorer"
    ):
        scored.setdefault(answer, set()).add(scorer)
    done: dict[str, set[int]] = {}
    unscored: dict[str, list[Answer]] = {}
    for answer in answers.iterator(chunk_size=2000):
        if answer.problem or scored.get(answer.pk, set()) >= wanted:
            done.setdefault(answer.item, set()).add(answer.index)
        elif answer.token_ids:
            unscored.setdefault(answer.item, []).append(answer)
    rows = []
    for item in items.order_by("digest").only("digest", "row"):
        left = [index for index in range(samples) if index not in done.get(item.digest, set())]
        if left:
            rows.append(_row(item, left, samples, unscored.get(item.digest, [])))
    return rows


def _row(item: Item, left: list[int], samples: int, unscored: Sequence[Answer]) -> dict[str, Any]:
    row = dict(item.row)
    if len(left) < samples:
        row[SAMPLES] = left
    if unscored:
        row[ANSWERS_COLUMN] = [
            {
                "index": answer.index,
                "token_ids": answer.token_ids,
                "logps": answer.logps,
                "finish_reason": answer.finish_reason,
            }
            for answer in unscored
        ]
    return row


def rows_store(rows: Sequence[dict[str, Any]], name: str, user: User) -> Dataset:
    """Rows as a dataset, which nodes fetch like any other; equal rows are one file."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file = ContentFile(text.encode(), name="rows.jsonl")
    return dataset_upload(owner=user, file=file, name=name[:120], made_for="comparison")


def _scorers_refresh(comparison: Comparison) -> None:
    """Take the scorers' code, and the models that they name, as they are now: what a run will score carries their
    digests. Raises SpecError for a model that is gone."""
    fixed, problems = scorers_fixed(
        [{k: v for k, v in one.items() if k != DIGEST} for one in comparison.scorers]
    )
    if problems:
        raise SpecError(problems)
    now = scorers_pinned(fixed)
    if now != comparison.scorers:
        comparison.scorers = now
        comparison.save(update_fields=["scorers"])
