"""Launch runs that read the answers of a comparison's other arms: log-probabilities token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction

from orchestrator.models import ENDED, Answer, Arm, ArmRun, Comparison, Item, Reading, Run
from orchestrator.selectors.comparison_readings import VOCABULARY, readable_pairs
from orchestrator.selectors.comparisons import arms_of, samples_of, sampling_key
from orchestrator.services.comparison_orders import evaluation_spec
from orchestrator.services.comparison_runs import TAG, rows_store, unchanged_check
from orchestrator.services.runs import run_create
from trainer.answering import ANSWERS as ANSWERS_COLUMN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import User

PURPOSE = "readings"


def comparison_read(*, comparison_id: str, user: User) -> list[Run]:
    """Launch one run for each arm that has others' answers left to read; nothing twice.

    Raises ValueError that says why where no two arms can be read.
    """
    with transaction.atomic():
        comparison = Comparison.objects.select_for_update().get(pk=comparison_id)
        if comparison.imported:
            raise ValueError("Its answers came from a file: there is no model to read them with.")
        pairs, problems = readable_pairs(arms_of(comparison))
        if not pairs:
            raise ValueError(" ".join(problems) or "No two arms of it are different models.")
        launched = []
        for reader in dict.fromkeys(reader for _, reader in pairs):
            authors = [author for author, other in pairs if other == reader]
            run = _reader_launch(comparison, reader, authors, user)
            if run is not None:
                ArmRun.objects.create(arm=reader, run=run, purpose=PURPOSE)
                launched.append(run)
    return launched


def _reader_launch(
    comparison: Comparison, reader: Arm, authors: Sequence[Arm], user: User
) -> Run | None:
    busy = ArmRun.objects.filter(arm=reader, purpose=PURPOSE).exclude(run__state__in=ENDED)
    rows = [] if busy.exists() else unread_rows(comparison, reader, authors)
    if not rows:
        return None
    unchanged_check(reader)
    dataset = rows_store(rows, f"Answers of {comparison.name}", user)
    spec = evaluation_spec(
        model=reader.model,
        prompts=[{"source": dataset.pk, "split": "test"}],
        sampling=comparison.sampling,
        scorers=[],
        seed=comparison.seed,
        name=f"{reader.name} reads"[:120],
    )
    spec["evaluation"] |= {"answers": "none", "readings": True}
    return run_create(owner=user, spec=spec, tags=[TAG])


def unread_rows(
    comparison: Comparison, reader: Arm, authors: Sequence[Arm]
) -> list[dict[str, Any]]:
    """Rows of the prompts that have answers by `authors` which `reader` has not read, with these answers."""
    by_digest = {author.digest: author for author in authors}
    items = Item.objects.filter(comparison=comparison)
    answers = Answer.objects.filter(
        model__in=list(by_digest),
        sampling=sampling_key(comparison),
        index__lt=samples_of(comparison),
        item__in=items.values("digest"),
        problem="",
    )
    read = Reading.objects.filter(model=reader.digest, answer__in=answers).values("answer_id")
    found: dict[str, list[dict[str, Any]]] = {}
    for answer in answers.exclude(pk__in=read).order_by("pk").iterator(chunk_size=2000):
        if answer.token_ids:
            author = by_digest[answer.model]
            found.setdefault(answer.item, []).append(
                {
                    "index": answer.index,
                    "model": answer.model,
                    "vocabulary": author.facts[VOCABULARY],
                    "token_ids": answer.token_ids,
                }
            )
    return [
        {**item.row, ANSWERS_COLUMN: found[item.digest]}
        for item in items.order_by("digest").only("digest", "row")
        if item.digest in found
    ]
