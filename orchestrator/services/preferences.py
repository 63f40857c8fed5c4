"""Votes become a data set of preference pairs: with provenance, without prompts of evaluation sets."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.core.files.uploadedfile import SimpleUploadedFile

from orchestrator import evidence
from orchestrator.selectors.ballot_pool import answers_of
from orchestrator.selectors.evaluation_sets import evaluation_prompts
from orchestrator.selectors.votes import people_votes, votes_of
from orchestrator.services.contamination import EvaluationPrompts, prompt_text
from orchestrator.services.datasets import NAME_MOST, dataset_upload
from orchestrator.services.preference_votes import Preference, preferences

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.models import Arm, Comparison, Dataset, Item, User

GONE = "answer gone"
KINDS = {
    "exact": "prompt of an evaluation set",
    "normalised": "prompt of an evaluation set but for case, spaces or punctuation",
    "overlap": "half of the prompt's runs of 13 words are in an evaluation set",
}


@dataclass(frozen=True)
class Exported:
    """What was made of the votes."""

    dataset: Dataset
    pairs: int
    left_out: dict[str, int]
    """Why pairs are not in it, and how many."""
    sets: list[str]
    """What the prompts were held against."""


def preferences_export(
    *,
    comparison: Comparison,
    user: User,
    name: str = "",
    against: Sequence[str] = (),
    weighted: bool = False,
) -> Exported:
    """Store the pairs that votes decided as a data set: prompt, chosen, rejected, provenance.

    `against` names evaluation sets: ids of data sets, `run:ID` for what a run evaluates on. Prompts that
    occur in them are left out and counted. `weighted`: votes count by how their voter does on test items.
    Raises ValueError where an evaluation set cannot be read, or where no pair is left.
    """
    weights = evidence.judge_weights(people_votes(comparison)) if weighted else {}
    found, left_out = preferences(votes_of(comparison), weights)
    prompts, sets = evaluation_prompts(against)
    known = EvaluationPrompts(prompt_text(prompt) for prompt in prompts)
    rows, gone = _rows(comparison, found, known)
    left_out += gone
    if not rows:
        raise ValueError(_none_left(left_out))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    file = SimpleUploadedFile(f"votes-{comparison.pk}.jsonl", lines.encode())
    title = name.strip() or f"Votes on {comparison.name}"[:NAME_MOST]
    dataset = dataset_upload(owner=user, file=file, name=title)
    return Exported(dataset, len(rows), dict(left_out), sets)


def _rows(
    comparison: Comparison, found: Sequence[Preference], known: EvaluationPrompts
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """The lines of the file, and why others of these pairs have none."""
    items = {item.pk: item for item in comparison.items.all()}
    arms = {arm.pk: arm for arm in comparison.arms.all()}
    texts = _texts(comparison, found, items)
    why = {pk: known.why(prompt_text(_prompt(items[pk]))) for pk in {one.item for one in found}}
    rows, gone = [], Counter[str]()
    for one in found:
        if why[one.item]:
            gone[KINDS[why[one.item]]] += 1
        elif (row := _row(one, comparison, items[one.item], arms, texts)) is None:
            gone[GONE] += 1
        else:
            rows.append(row)
    return rows, gone


def _prompt(item: Item) -> Any:
    """As the models were asked: text or chat messages."""
    return item.row.get("prompt") or item.prompt


def _texts(
    comparison: Comparison, found: Iterable[Preference], items: dict[int, Item]
) -> dict[tuple[str, str, int], str]:
    digests = {items[one.item].digest for one in found}
    rows = answers_of(comparison, digests).filter(problem="")
    return {
        (model, item, index): text
        for model, item, index, text in rows.values_list("model", "item", "index", "text")
    }


def _row(
    one: Preference,
    comparison: Comparison,
    item: Item,
    arms: dict[int, Arm],
    texts: dict[tuple[str, str, int], str],
) -> dict[str, Any] | None:
    """One line of the file; None where one of its answers is gone."""
    chosen, rejected = arms[one.chosen], arms[one.rejected]
    good, bad = (texts.get((arm.digest, item.digest, one.index)) for arm in (chosen, rejected))
    if good is None or bad is None:
        return None
    return {
        "prompt": _prompt(item),
        "chosen": good,
        "rejected": bad,
        "provenance": {
            "comparison": comparison.pk,
            "item": item.number,
            "sample": one.index,
            "chosen": _told(chosen),
            "rejected": _told(rejected),
            "votes": one.votes,
            "judges": list(one.judges),
            "agreement": round(one.agreement, 4),
        },
    }


def _told(arm: Arm) -> dict[str, Any]:
    return {
        "name": arm.name,
        "model": arm.model,
        "checkpoint": arm.checkpoint_id,
        "digest": arm.digest,
    }


def _none_left(left_out: Counter[str]) -> str:
    if not left_out:
        return "votes: nobody has voted on this comparison yet, so there is no pair to export"
    reasons = ", ".join(f"{why} ({count})" for why, count in left_out.most_common())
    return f"votes: no pair is left to export: {reasons}"
