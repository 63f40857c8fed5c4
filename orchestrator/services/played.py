"""What a playground's models said, as it arrives: read, checked, stored once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Count, F
from django.utils import timezone

from orchestrator.models import Played, Question
from orchestrator.services.answer_entries import (
    PROBLEM_MOST,
    REASONS,
    logps_read,
    pieces_read,
    text_read,
    token_ids_read,
)
from orchestrator.services.event_fields import integer, numbers, shown
from trainer.play import READERS, VOICES

if TYPE_CHECKING:
    from orchestrator.services.entries import Push

SAMPLES_END = 100


def played_read(event: dict[str, Any]) -> dict[str, Any]:
    """One answer of one voice. Raises ValueError with a sentence when it is none."""
    voice, reason = event.get("voice"), event.get("finish_reason") or ""
    if voice not in VOICES:
        raise ValueError(f"voice is {shown(voice)!r}; it must be one of {', '.join(VOICES)}")
    if reason not in REASONS:
        raise ValueError(f"finish_reason is {shown(reason)!r}; it must be stop, length or empty")
    index = integer(event, "index")
    if index >= SAMPLES_END:
        raise ValueError(f"index is {index}; it must be below {SAMPLES_END}")
    ids = token_ids_read(event)
    return {
        "request": integer(event, "request"),
        "voice": voice,
        "index": index,
        "text": text_read(event, "text"),
        "token_ids": ids,
        "pieces": pieces_read(event, len(ids)),
        "logps": logps_read(event, len(ids)),
        "readings": _readings(event, len(ids)),
        "finish_reason": reason,
        "problem": text_read(event, "problem")[:PROBLEM_MOST],
    }


def played_store(*, run_id: str, push: Push) -> None:
    """Store the answers of a push within the current transaction; what is there already stands.

    What nobody here asked of this run is dropped: another question, another voice, one answer more.
    """
    if not push.played:
        return
    named = {entry["request"] for entry in push.played}
    # Locked, so that of two pushes the later one sees whether both make a question whole.
    found = Question.objects.select_for_update(no_key=True).filter(run_id=run_id, pk__in=named)
    bodies = {question.pk: question.body for question in found.order_by("pk")}
    Played.objects.bulk_create(
        [
            Played(
                question_id=entry["request"],
                **{key: value for key, value in entry.items() if key != "request"},
            )
            for entry in push.played
            if _was_asked(entry, bodies.get(entry["request"]))
        ],
        ignore_conflicts=True,
    )
    whole = (
        Question.objects.filter(pk__in=list(bodies), answered=None)
        .annotate(there=Count("answers"))
        .filter(there__gte=F("expected"))
    )
    Question.objects.filter(pk__in=list(whole.values_list("pk", flat=True))).update(
        answered=timezone.now()
    )


def _was_asked(entry: dict[str, Any], body: dict[str, Any] | None) -> bool:
    return (
        body is not None and entry["voice"] in body["voices"] and entry["index"] < body["samples"]
    )


def _readings(event: dict[str, Any], count: int) -> dict[str, list[float | str | None]]:
    readings = event.get("readings") or {}
    if not isinstance(readings, dict) or not readings.keys() <= set(READERS):
        raise ValueError(f"readings must be an object of log-probabilities by {', '.join(READERS)}")
    found = {name: numbers(readings, name) for name in readings}
    if any(len(logps) != count for logps in found.values()):
        raise ValueError(f"a reading holds one number for each of the {count} tokens")
    return found
