"""What a saved state belongs to: resuming refuses a changed model, data or objective, and names it.

The weights, moments and cursor of a checkpoint mean something only for the model, the rows and the
objective they were made with. Everything else may differ: it is said in an alert.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from trainer.engine.knobs import is_live

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.dataset import Cursor, Part
    from trainer.engine.policy import Policy
    from trainer.spec import RunSpec

FATAL = ("seed", "model", "reference", "adapter", "objective", "advantage", "optimizer.type")
"""Parts of the spec that a saved state is void without; live knobs in them may still change."""
HARMLESS = ("model.dtype", "model.trust_remote_code")
SILENT = ("name", "data.train", "data.eval", "resources")
"""Not told: data is compared by its rows, wherever they lie, and machines differ."""
SAMPLED = 256
"""Weights of each tensor that count for a model's digest: reading all of a large one takes long."""


def fingerprint(
    spec: RunSpec, policy: Policy, parts: Sequence[Part], start: str = ""
) -> dict[str, Any]:
    """Plain data to keep beside a state; `start` is the digest of the start model's weights."""
    return {
        "spec": spec.model_dump(mode="json"),
        "model": {
            "architecture": type(policy.model).__name__,
            "shapes": digest_of([[n, list(p.shape)] for n, p in policy.model.named_parameters()]),
            "vocabulary": digest_of(sorted(policy.tokenizer.get_vocab().items())),
            "frozen": weights_digest(policy.model, frozen=True),
            "start": start,
        },
        "data": {
            part.name: {"rows": len(part.examples), "digest": rows_digest(part)} for part in parts
        },
    }


def rows_digest(part: Part) -> str:
    """Digest of the rows as they are trained on: tokens, and the columns that rewards read."""
    digest = hashlib.sha256()
    for example in part.examples:
        text = json.dumps(
            [example.id, example.prompt, example.answers, example.row], sort_keys=True, default=str
        )
        digest.update(text.encode())
    return digest.hexdigest()


def orders_digest(cursor: Cursor, visited: Sequence[int]) -> list[str]:
    """Digest of the order in which each part is visited in the epoch it is in."""
    return [digest_of(list(order)) for order in cursor.orders(visited)]


def weights_digest(model: Any, *, frozen: bool = False) -> str:
    """Digest of a model's weights, or of the frozen ones alone; of evenly spread ones where there are many."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if frozen and parameter.requires_grad:
            continue
        flat = parameter.detach().reshape(-1)
        some = flat[:: max(1, len(flat) // SAMPLED)].float().cpu().contiguous()
        digest.update(f"{name} {tuple(parameter.shape)} ".encode() + some.numpy().tobytes())
    return digest.hexdigest()


def digest_of(value: Any) -> str:
    """SHA-256 of plain data."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def spec_changes(saved: dict[str, Any], spec: RunSpec) -> tuple[list[str], list[str]]:
    """What differs between the spec of a saved state and this one: (refused, allowed), as sentences."""
    refused: list[str] = []
    allowed: list[str] = []
    before, now = saved.get("spec"), spec.model_dump(mode="json")
    for path, old, new in _differences(before or now, now, ""):
        sentence = f"{path} was {_shown(old)} and is now {_shown(new)}"
        if not _under(path, FATAL) or _under(path, HARMLESS) or is_live(spec, path):
            if not _under(path, SILENT):
                allowed.append(sentence)
        else:
            refused.append(sentence)
    return refused, allowed


def content_changes(
    saved: dict[str, Any], now: dict[str, Any], orders: tuple[list[str] | None, list[str]]
) -> list[str]:
    """What differs in the model, the rows, or the order of the rows (saved, now): refused, as sentences."""
    found: list[str] = []
    names = {
        "architecture": "the architecture",
        "shapes": "the shape of the weights",
        "vocabulary": "the tokenizer's vocabulary",
        "frozen": "the base model's weights",
    }
    before = saved.get("model", {})
    for key, name in names.items():
        if key in before and before[key] != now["model"][key]:
            found.append(f"model.name: {name} changed")
    rows, rows_now = saved.get("data"), now["data"]
    if rows is not None and rows != rows_now:
        for name in sorted({*rows, *rows_now}):
            one, other = rows.get(name), rows_now.get(name)
            if one != other:
                found.append(f"data.train: the rows of {name} have changed ({_rows(one, other)})")
    elif orders[0] is not None and orders[0] != orders[1]:
        found.append(
            "curriculum: the rows of this epoch come in another order (its knobs or its code changed)"
        )
    return found


def _rows(one: dict[str, Any] | None, other: dict[str, Any] | None) -> str:
    if one is None or other is None:
        return "the source was added" if one is None else "the source is gone"
    if one["rows"] != other["rows"]:
        return f"{one['rows']} then, {other['rows']} now"
    return f"{one['rows']} rows, but not the same ones"


def _differences(old: Any, new: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Every knob that differs, by its path; a method of another type is one difference."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type"):
        for key in sorted({*old, *new}):
            # A knob that this version has added has its default: nothing was changed.
            if key in old:
                yield from _differences(old[key], new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        both = isinstance(old, dict) and isinstance(new, dict)
        yield (f"{path}.type", old.get("type"), new.get("type")) if both else (path, old, new)


def _under(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place}.") for place in places)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
