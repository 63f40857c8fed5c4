"""Keep prompts of a comparison as a dataset to evaluate on: a new one, or a new version of one that is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.files.base import ContentFile

from orchestrator.models import Comparison, Dataset, Item
from orchestrator.selectors.datasets import dataset_path
from orchestrator.services.comparison_orders import name_checked
from orchestrator.services.datasets import dataset_upload
from trainer.answering import item_digest
from trainer.tables import table_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from orchestrator.models import User

ORIGIN = "id"
"""Column of where a row comes from. It is no part of what is asked: answers to the prompt are found again."""


def evaluation_set_add(
    *,
    comparison: Comparison,
    user: User,
    numbers: Iterable[int],
    name: str = "",
    dataset_id: str = "",
) -> Dataset:
    """The prompts with these numbers, behind the rows of `dataset_id` where it is given, each prompt once.

    A dataset is its content, so adding makes another one of the same name: what runs have used stays as it was.
    Raises ValueError that names the field.
    """
    wanted = sorted(set(numbers))
    if not wanted:
        raise ValueError("items: there are none; choose at least one prompt")
    items = list(Item.objects.filter(comparison=comparison, number__in=wanted).order_by("number"))
    if missing := sorted(set(wanted) - {item.number for item in items}):
        raise ValueError(f"items: there is no prompt {missing[0]} in this comparison")
    before, kept_name = _rows_before(dataset_id)
    name = kept_name or name_checked(name)
    if not name:
        raise ValueError("name: give the new dataset a name, or name the one to add to")
    known = {item_digest(row) for row in before}
    added = [
        {**item.row, ORIGIN: f"comparison:{comparison.pk}/{item.number}"}
        for item in items
        if item.digest not in known
    ]
    if not added:
        raise ValueError("items: all of these prompts are in the dataset already")
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in [*before, *added])
    file = ContentFile(text.encode(), name="evaluation-set.jsonl")
    return dataset_upload(owner=user, file=file, name=name)


def _rows_before(dataset_id: str) -> tuple[list[dict[str, Any]], str]:
    """The rows of a dataset, under our names for its columns, and its name."""
    if not dataset_id:
        return [], ""
    dataset = Dataset.objects.filter(pk=dataset_id.replace("\x00", "")).first()
    if dataset is None:
        raise ValueError("dataset: there is no such dataset")
    path = dataset_path(dataset)
    if not path.is_file():
        raise ValueError("dataset: its file is not on this server any more")
    renamed = dataset.mapping
    rows = [
        {renamed.get(key, key): value for key, value in row.items()} for row in table_rows(path)
    ]
    return json.loads(json.dumps(rows, default=str)), dataset.name
