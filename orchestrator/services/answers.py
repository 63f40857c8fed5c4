"""Store what evaluation runs found for comparisons: answers, scores, readings, judgements, each once.

A run counts where an `ArmRun` ties it to an arm; whose answers they are, and under which sampling, is what the
server knows of arm and run, never what the journal says. What is there already stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from orchestrator.models import (
    Answer,
    Arm,
    ArmRun,
    Item,
    Judgement,
    Reading,
    Run,
    Score,
)
from trainer.answering import sampling_digest, sampling_of

if TYPE_CHECKING:
    from orchestrator.services.entries import Push

ANSWERS, READINGS, JUDGE = "answers", "readings", "judge"
"""What a run does for an arm (`ArmRun.purpose`)."""
BATCH = 500

_DIGEST = re.compile(r"[0-9a-f]{64}")


def answers_store(*, run_id: str, push: Push) -> None:
    """Store the answers, readings and judgements of a push within the current transaction.

    A run that no arm is tied to, or one whose model nobody has a digest of, stores nothing.
    """
    told = vocabulary_told(push.facts)
    if not (push.answers or push.readings or push.judgements or told):
        return
    ties = ArmRun.objects.filter(run_id=run_id).select_related("arm").order_by("pk")
    arms = {tie.purpose: tie.arm for tie in ties}
    if not arms:
        return
    if told:
        _vocabulary_note([tie.arm_id for tie in ties if tie.purpose != JUDGE], told)
    if push.judgements and JUDGE in arms:
        _judgements_store(arms[JUDGE], push.judgements)
    if not (push.answers or push.readings):
        return
    sampling = _sampling_of_run(run_id)
    if push.answers and ANSWERS in arms and arms[ANSWERS].digest:
        _answers_store(run_id, arms[ANSWERS].digest, sampling, push.answers)
    if push.readings and READINGS in arms and arms[READINGS].digest:
        _readings_store(arms[READINGS].digest, sampling, push.readings)


def vocabulary_told(facts: list[dict[str, Any]]) -> str:
    """Digest of the vocabulary of the run's model, where a status of the push tells it; else ""."""
    found = ""
    for fact in facts:
        data = fact.get("data")
        if fact["type"] == "status" and isinstance(data, dict):
            told = data.get("vocabulary")
            if isinstance(told, str) and _DIGEST.fullmatch(told):
                found = told
    return found


def _vocabulary_note(arms: list[int], told: str) -> None:
    """Keep beside an arm which tokens its model has: readings need two models that have the same."""
    for arm in Arm.objects.select_for_update(no_key=True).filter(pk__in=arms).order_by("pk"):
        if arm.facts.get("vocabulary") != told:
            arm.facts["vocabulary"] = told
            arm.save(update_fields=["facts"])


def _sampling_of_run(run_id: str) -> str:
    spec = Run.objects.values_list("spec", flat=True).get(pk=run_id)
    return sampling_digest(sampling_of(spec), spec.get("seed") or 0)


def _answers_store(run_id: str, model: str, sampling: str, entries: list[dict[str, Any]]) -> None:
    rows: dict[tuple[str, int], Answer] = {}
    for entry in _in_order(entries):
        fields = {key: value for key, value in entry.items() if key != "scores"}
        row = Answer(model=model, sampling=sampling, run_id=run_id, **fields)
        rows.setdefault((entry["item"], entry["index"]), row)
    Answer.objects.bulk_create(rows.values(), ignore_conflicts=True, batch_size=BATCH)
    stored = _stored(model, sampling, entries)
    scores = []
    for entry in _in_order(entries):
        answer = stored[entry["item"], entry["index"]]
        # A score is of the answer that it was given to, which another run may have been first to bring.
        if answer.text == entry["text"] and answer.token_ids == entry["token_ids"]:
            scores += [
                Score(answer=answer, scorer=scorer, **score)
                for scorer, score in sorted(entry["scores"].items())
            ]
    Score.objects.bulk_create(scores, ignore_conflicts=True, batch_size=BATCH)


def _readings_store(model: str, sampling: str, entries: list[dict[str, Any]]) -> None:
    by_author: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        by_author.setdefault(entry["author"], []).append(entry)
    for author, some in sorted(by_author.items()):
        stored = _stored(author, sampling, some)
        readings = [
            Reading(
                answer=stored[entry["item"], entry["index"]],
                model=model,
                logps=entry["logps"],
                pieces=entry["pieces"],
                problem=entry["problem"],
            )
            for entry in _in_order(some)
            if (entry["item"], entry["index"]) in stored
        ]
        Reading.objects.bulk_create(readings, ignore_conflicts=True, batch_size=BATCH)


def _judgements_store(arm: Arm, entries: list[dict[str, Any]]) -> None:
    """Those that speak of items and arms of the comparison; what else a journal names is nobody's."""
    of_comparison = {"comparison_id": arm.comparison_id}
    arms = dict(Arm.objects.filter(**of_comparison).values_list("name", "pk"))
    digests = {entry["item"] for entry in entries}
    items = dict(
        Item.objects.filter(digest__in=digests, **of_comparison).values_list("digest", "pk")
    )
    rows = [
        Judgement(
            **of_comparison,
            item_id=items[entry["item"]],
            left_id=arms[entry["left"]],
            right_id=arms[entry["right"]],
            **{
                key: entry[key]
                for key in ("index", "judge", "repeat", "outcome", "problem", "said")
            },
        )
        for entry in _in_order(entries)
        if entry["item"] in items
        and {entry["left"], entry["right"]} <= arms.keys()
        and entry["left"] != entry["right"]
    ]
    Judgement.objects.bulk_create(rows, ignore_conflicts=True, batch_size=BATCH)


def _stored(
    model: str, sampling: str, entries: list[dict[str, Any]]
) -> dict[tuple[str, int], Answer]:
    """The answers of a model that entries speak of, by item and index."""
    found = Answer.objects.filter(
        model=model,
        sampling=sampling,
        item__in={entry["item"] for entry in entries},
        index__in={entry["index"] for entry in entries},
    )
    return {(answer.item, answer.index): answer for answer in found}


def _in_order(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted by what they are about: two runs that bring the same ones wait for each other, never in a circle."""
    keys = ("item", "index", "left", "right", "repeat")
    return sorted(entries, key=lambda entry: [entry.get(key, "") for key in keys])
