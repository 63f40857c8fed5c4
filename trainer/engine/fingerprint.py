"""What a saved state belongs to: resuming refuses a changed model, data or objective, and names it.

The weights, moments and cursor of a checkpoint mean something only for the model, the rows and the
objective they were made with. Everything else may differ: it is said in an alert.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from trainer import registry
from trainer.live import is_live

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
CODED = {"objective": "objectives", "advantage": "advantages"}
"""Parts of the spec whose code makes the loss, and their families."""
SAMPLED = 256
"""Weights of each tensor that count for a model's digest: reading all of a large one takes long."""


def fingerprint(
    spec: RunSpec,
    policy: Policy,
    parts: Sequence[Part],
    start: str = "",
    eval_parts: Sequence[Part] = (),
) -> dict[str, Any]:
    """Plain data to keep beside a state; `start` is the digest of the start model's weights."""
    return {
        "spec": spec.model_dump(mode="json"),
        "code": _code(spec),
        "model": {
            # A model that is divided among ranks is of a class of its own, named after the model's.
            "architecture": type(policy.model).__name__.removeprefix("FSDP"),
            "shapes": digest_of([[n, list(p.shape)] for n, p in policy.model.named_parameters()]),
            "vocabulary": digest_of(sorted(policy.tokenizer.get_vocab().items())),
            "frozen": weights_digest(policy.model, frozen=True),
            "start": start,
        },
        "data": _data(parts),
        "eval": _data(eval_parts),
    }


def _data(parts: Sequence[Part]) -> dict[str, Any]:
    return {part.name: {"rows": len(part.examples), "digest": rows_digest(part)} for part in parts}


def _code(spec: RunSpec) -> dict[str, Any]:
    """Of each method that makes the loss: a digest of its code, and whether it is a user's own."""
    found: dict[str, Any] = {}
    for part, family in CODED.items():
        method = getattr(spec, part)
        if method is not None:
            folder = registry.user_folder()
            file = registry.file_of(type(method))
            own = folder is not None and file.is_relative_to(folder)
            found[part] = {"sha256": registry.hashes()[f"{family}/{method.type}"], "own": own}
    return found


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
    # What ships changes with a new version, and says so; a method of the user's own was edited.
    found += [text for text, own in _code_changes(saved, now) if own]
    rows = saved.get("data")
    if rows is not None and rows != now["data"]:
        found += [f"data.train: {text}" for text in _rows_changes(rows, now["data"])]
    elif orders[0] is not None and orders[0] != orders[1]:
        found.append(
            "curriculum: the rows of this epoch come in another order (its knobs or its code changed)"
        )
    return found


def content_remarks(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs besides and does not make the state void: to be told, as sentences."""
    told = [text for text, own in _code_changes(saved, now) if not own]
    changes = _rows_changes(saved.get("eval", now["eval"]), now["eval"])
    told += [
        f"data.eval: {text}: what was measured before cannot be compared with what comes"
        for text in changes
    ]
    return told


def _code_changes(saved: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    before = saved.get("code", {})
    for part, code in now["code"].items():
        if part in before and before[part]["sha256"] != code["sha256"]:
            yield f"{part}.type: the code of {now['spec'][part]['type']} changed", code["own"]


def _rows_changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    for name in sorted({*before, *now}):
        one, other = before.get(name), now.get(name)
        if one != other:
            yield f"the rows of {name} have changed ({_rows(one, other)})"


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
