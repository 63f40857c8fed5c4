"""Names of answers by content: which prompt, which way of sampling, which scorer.

Trainer and server compute the same digests from the same data, so that what was generated or scored once
is found again under any run or comparison. Pure: neither torch nor the database.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SAMPLES, ANSWERS, PAIRS = "_samples", "_answers", "_pairs"
"""Reserved columns of a prompt's row: the sample numbers that are wanted (absent: all); answers that are there,
to be scored or read; pairs of answers, to be judged."""
RESERVED = frozenset({"id", SAMPLES, ANSWERS, PAIRS})
"""Columns that are no part of what is asked: the same prompt has the same digest with and without them."""

DEFAULTS: dict[str, float | int] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
"""How `[evaluation]` samples unless it says otherwise; the longest answer is the rollout's."""
_WHOLE = frozenset({"top_k", "max_new_tokens"})
_REACHING = frozenset({"key_variable", "timeout_seconds", "retries", "parallel"})
"""Knobs that say how a service is reached, not what it is asked."""
_PRESENTATION = frozenset({"name", "weight"}) | _REACHING
"""Knobs of a scorer that change how its values are got, shown and added up, never the values."""
_ASKING = frozenset({"swap", "repeats"}) | _REACHING
"""Knobs of a judge that say how and how often it is asked, not what."""


def item_digest(row: Mapping[str, Any]) -> str:
    """SHA-256 of the row's sorted compact JSON, without `id` and the reserved columns.

    Whole numbers count the same as 2 and as 2.0: a database may give back either.
    """
    return _digest({key: value for key, value in row.items() if key not in RESERVED})


def sampling_digest(sampling: Mapping[str, Any], seed: int) -> str:
    """SHA-256 of temperature, top_p, top_k, min_p, max_new_tokens and seed, defaults filled in.

    Other keys of `sampling` are no part of it: how many samples a prompt gets does not change one of them.
    A `max_new_tokens` of 0 is the default of `rollout.max_new_tokens`.
    """
    longest = sampling.get("max_new_tokens") or Rollout.model_fields["max_new_tokens"].default
    found = {name: sampling.get(name, default) for name, default in DEFAULTS.items()}
    found = {key: int(value) if key in _WHOLE else float(value) for key, value in found.items()}
    return _digest({**found, "max_new_tokens": int(longest), "seed": int(seed)})


def sampling_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """How an evaluation samples, from its spec as plain data: what `sampling_digest` takes."""
    evaluation, rollout = spec.get("evaluation") or {}, spec.get("rollout") or {}
    found = {name: evaluation.get(name, default) for name, default in DEFAULTS.items()}
    longest = evaluation.get("max_new_tokens") or rollout.get("max_new_tokens") or 0
    return {**found, "max_new_tokens": longest}


def scorer_digest(knobs: Mapping[str, Any], code_hash: str) -> str:
    """SHA-256 of a scorer's knobs, defaults filled in, and of its code; its name and weight are left out.

    `code_hash` is that of `registry.hashes()["rewards/TYPE"]`. Raises ValueError for knobs that do not fit.
    """
    method = registry.family("rewards").get(str(knobs.get("type", "")))
    whole = dict(knobs) if method is None else _whole(method, knobs)
    kept = {key: value for key, value in whole.items() if key not in _PRESENTATION}
    return _digest({"knobs": kept, "code": code_hash})


def scorer_digests(scorers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The digest of each scorer by its label, with the code that is installed here."""
    hashes = registry.hashes()
    return {
        str(knobs.get("name") or knobs["type"]): scorer_digest(
            knobs, hashes.get(f"rewards/{knobs['type']}", "")
        )
        for knobs in scorers
    }


def judge_digest(knobs: Mapping[str, Any]) -> str:
    """SHA-256 of a judge's knobs, defaults filled in, without those that say how and how often it is asked, and
    of its code as it is installed here.

    Raises ValueError for knobs that do not fit.
    """
    tag = str(knobs.get("type", ""))
    method = registry.family("evaluators").get(tag)
    whole = dict(knobs) if method is None else _whole(method, knobs)
    kept = {key: value for key, value in whole.items() if key not in _ASKING}
    return _digest({"knobs": kept, "code": registry.hashes().get(f"evaluators/{tag}", "")})


def vocabulary_digest(tokens: Mapping[str, int]) -> str:
    """SHA-256 of every token of a tokenizer with its id: equal where ids mean the same, whatever their number."""
    return _digest(dict(tokens))


def _whole(method: type[registry.Method], knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Knobs with the defaults of those that are not given."""
    return method.model_validate(dict(knobs)).model_dump(mode="json")


def _digest(value: Any) -> str:
    # Escaped, so that any text has a digest: a lone surrogate has no UTF-8.
    text = json.dumps(_canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    return value
