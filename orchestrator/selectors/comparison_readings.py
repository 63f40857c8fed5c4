"""How likely one arm finds the other arms' answers, token by token, where that was read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestrator.models import Answer, Arm, Reading
from orchestrator.selectors.comparisons import arms_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Comparison

APART = 1.0
"""Nats between two log-probabilities of a token from which on models count as apart: e times as likely."""
VOCABULARY = "vocabulary"


def readings_shown(comparison: Comparison, shown: Sequence[dict[str, Any]]) -> dict[int, Any]:
    """For answers of pages as `items_shown` gives them: id of the answer -> what each other arm makes of it."""
    arms = arms_of(comparison)
    by_digest = {arm.digest: arm.name for arm in arms}
    keys = [answer["id"] for item in shown for arm in item["arms"] for answer in arm["answers"]]
    found: dict[int, Any] = {}
    readings = Reading.objects.filter(answer__in=keys, model__in=list(by_digest))
    for reading in readings.select_related("answer").order_by("pk"):
        told = reading_told(reading.answer, reading.logps, reading.problem, reading.pieces)
        told["reader"] = by_digest[reading.model]
        found.setdefault(reading.answer_id, []).append(told)
    return found


def reading_told(
    answer: Answer, logps: Sequence[Any], problem: str, pieces: Sequence[str] = ()
) -> dict[str, Any]:
    """Tokens with both log-probabilities, where they first come apart, and the answer's part of the KL divergence.

    `kl` is the sum over the answer's tokens of log-probability under its author minus under the reader, in nats:
    its mean over answers that the author drew without truncation estimates KL(author || reader) for the prompt.
    """
    own = answer.logps
    if problem or len(own) != len(logps) or not own:
        return {"problem": problem or "its author's own log-probabilities are not there"}
    gaps = [float(mine) - float(theirs) for mine, theirs in zip(own, logps, strict=True)]
    texts = pieces if len(pieces) == len(own) else pieces_of(answer)
    return {
        "problem": "",
        "tokens": [
            {"text": text, "id": token, "own": mine, "other": theirs}
            for text, token, mine, theirs in zip(texts, answer.token_ids, own, logps, strict=True)
        ],
        "apart": next((at for at, gap in enumerate(gaps) if abs(gap) > APART), None),
        "kl": sum(gaps),
        "kl_per_token": sum(gaps) / len(gaps),
    }


def pieces_of(answer: Answer) -> list[str]:
    """The text of each token as far as it is told without the tokenizer: a character each, an end without one.

    "" where it cannot: the page then names tokens by their ids.
    """
    letters, count = list(answer.text), len(answer.token_ids)
    if len(letters) in (count, count - 1):
        return [*letters, *([""] * (count - len(letters)))]
    return [""] * count


def kl_of(told: dict[int, Any], item: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean over samples of an item's KL estimates, by author and reader."""
    sums: dict[tuple[str, str], list[float]] = {}
    for arm in item["arms"]:
        for answer in arm["answers"]:
            for reading in told.get(answer["id"], []):
                if not reading["problem"]:
                    sums.setdefault((arm["arm"], reading["reader"]), []).append(reading["kl"])
    return [
        {
            "author": author,
            "reader": reader,
            "kl": sum(values) / len(values),
            "answers": len(values),
        }
        for (author, reader), values in sums.items()
    ]


def readable_pairs(arms: Sequence[Arm]) -> tuple[list[tuple[Arm, Arm]], list[str]]:
    """(author, reader) of every two arms whose token ids mean the same, and why others cannot be read."""
    found, problems = [], []
    for author in arms:
        for reader in arms:
            if author.digest == reader.digest:
                continue
            mine, theirs = author.facts.get(VOCABULARY), reader.facts.get(VOCABULARY)
            if mine and mine == theirs:
                found.append((author, reader))
            elif author.position < reader.position:
                names = f"{author.name} and {reader.name}"
                problems.append(
                    f"{names} have different vocabularies: a token id of one is another text in the other."
                    if mine and theirs
                    else f"{names}: their vocabularies are not known yet; runs tell them when they answer."
                )
    return found, problems
