"""Read the events of an evaluation: answers with their scores, readings, judgements. Nothing is stored here.

What a node says is bounded and checked, as everything of a push is: a faulty event raises ValueError.
"""

from __future__ import annotations

import math
import re
from typing import Any

from orchestrator.models import Outcome
from orchestrator.services.event_fields import CONTROL, integer, numbers, shown, text_storable
from trainer.events import number_decode

INDEX_END = 100_000
TOKENS_MOST = 200_000
SCORERS_MOST = 64
LABEL_MOST = 64
NAME_MOST = 120
PROBLEM_MOST = 500
SAID_MOST = 20_000
REPEATS_END = 32_768
TOKEN_END = 2**31
REASONS = ("stop", "length", "")

_DIGEST = re.compile(r"[0-9a-f]{64}")


def answer_read(event: dict[str, Any]) -> dict[str, Any]:
    """An answer, and in `scores` what each scorer made of it, by the scorer's digest."""
    ids = token_ids_read(event)
    reason = event.get("finish_reason") or ""
    if reason not in REASONS:
        raise ValueError(f"finish_reason is {shown(reason)!r}; it must be stop, length or empty")
    return {
        "item": _digest(event, "item"),
        "index": _index(event),
        "text": text_read(event, "text"),
        "token_ids": ids,
        "logps": logps_read(event, len(ids)),
        "tokens": min(integer({"tokens": len(ids), **event}, "tokens"), TOKEN_END - 1),
        "finish_reason": reason,
        "problem": text_read(event, "problem")[:PROBLEM_MOST],
        "scores": _scores(event),
    }


def reading_read(event: dict[str, Any]) -> dict[str, Any]:
    """Log-probabilities of an answer under the model that the run works for."""
    logps = logps_read(event)
    return {
        "item": _digest(event, "item"),
        "index": _index(event),
        "author": _digest(event, "model"),
        "logps": logps,
        "pieces": pieces_read(event, len(logps)),
        "problem": text_read(event, "problem")[:PROBLEM_MOST],
    }


def judgement_read(event: dict[str, Any]) -> dict[str, Any]:
    """What a judge said of two answers."""
    outcome = event.get("outcome") or ""
    if outcome and outcome not in Outcome.values:
        known = ", ".join(Outcome.values)
        raise ValueError(f"outcome is {shown(outcome)!r}; it must be {known} or empty")
    problem = text_read(event, "problem")[:PROBLEM_MOST]
    if bool(outcome) == bool(problem):
        raise ValueError("a judgement has either an outcome or a problem")
    repeat = integer({"repeat": 0, **event}, "repeat")
    if repeat >= REPEATS_END:
        raise ValueError(f"repeat is {repeat}; it must be below {REPEATS_END}")
    return {
        "item": _digest(event, "item"),
        "index": _index(event),
        "left": _name(event, "left", NAME_MOST),
        "right": _name(event, "right", NAME_MOST),
        "repeat": repeat,
        "outcome": outcome,
        "problem": problem,
        "said": text_read(event, "said")[:SAID_MOST],
        "judge": _digest(event, "judge"),
    }


def _scores(event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each scorer gave, by its digest; a value or a problem, never both."""
    scores, scorers = event.get("scores") or {}, event.get("scorers") or {}
    if not isinstance(scores, dict) or not isinstance(scorers, dict):
        raise ValueError("scores and scorers must be objects by scorer")
    if max(len(scores), len(scorers)) > SCORERS_MOST:
        raise ValueError(f"it has more than {SCORERS_MOST} scorers")
    found: dict[str, dict[str, Any]] = {}
    for label, score in scores.items():
        if not 0 < len(label) <= LABEL_MOST or CONTROL.search(label):
            raise ValueError(f"'{shown(label)}' is no name of a scorer")
        if not isinstance(score, dict):
            raise ValueError(f"the score of {label} must be an object with value and problem")
        found[_digest(scorers, label)] = _score(label, score)
    return found


def _score(label: str, score: dict[str, Any]) -> dict[str, Any]:
    problem = text_read(score, "problem")[:PROBLEM_MOST]
    value = score.get("value")
    if value is None:
        return {"value": None, "problem": problem or "the scorer could not say"}
    number = number_decode(value)
    if not math.isfinite(number):
        raise ValueError(f"the score of {label} is {number}; a scorer that cannot say gives null")
    if problem:
        raise ValueError(f"the score of {label} has a value and a problem")
    return {"value": number, "problem": ""}


def token_ids_read(event: dict[str, Any]) -> list[int]:
    """The tokens of an answer."""
    ids = event.get("token_ids") or []
    if not isinstance(ids, list) or len(ids) > TOKENS_MOST:
        raise ValueError(f"token_ids must be a list of at most {TOKENS_MOST} whole numbers")
    for token in ids:
        if isinstance(token, bool) or not isinstance(token, int) or not 0 <= token < TOKEN_END:
            raise ValueError(f"token_ids holds {shown(token)!r}; they are whole numbers from 0")
    return ids


def logps_read(event: dict[str, Any], count: int | None = None) -> list[float | str | None]:
    """One for each token, or none at all."""
    if isinstance(event.get("logps"), list) and len(event["logps"]) > TOKENS_MOST:
        raise ValueError(f"logps must be a list of at most {TOKENS_MOST} numbers")
    found = numbers(event, "logps")
    if count is not None and found and len(found) != count:
        raise ValueError(f"it has {len(found)} logps for {count} tokens")
    return found


def pieces_read(event: dict[str, Any], count: int) -> list[str]:
    """The text of each of `count` tokens, or none at all."""
    pieces = event.get("pieces") or []
    if not isinstance(pieces, list) or len(pieces) not in (0, count):
        raise ValueError(f"pieces must be a list of {count} texts, one for each token")
    return [text_read({"piece": piece}, "piece") for piece in pieces]


def _index(event: dict[str, Any]) -> int:
    index = integer(event, "index")
    if index >= INDEX_END:
        raise ValueError(f"index is {index}; it must be below {INDEX_END}")
    return index


def _digest(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ValueError(f"{shown(name)} is {shown(value)!r}; it must be a SHA-256 in hex")
    return value


def _name(event: dict[str, Any], name: str, most: int) -> str:
    value = event.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most or CONTROL.search(value):
        raise ValueError(f"{name} is {shown(value)!r}; it must be a name of 1 to {most} characters")
    return value


def text_read(event: dict[str, Any], name: str) -> str:
    """The text in a field, "" where there is none; as PostgreSQL takes it."""
    value = event.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} must be a text")
    return text_storable(value or "")
