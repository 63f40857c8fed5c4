"""What a model's folder says of itself: read from its JSON and the heads of its weights, without any library.

Nothing of the folder is run or unpickled, and nothing but these few files is opened.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, ADAPTER, MANIFEST, MERGED = (
    "config.json",
    "adapter_config.json",
    "manifest.json",
    "merged.json",
)
TELLING = (MANIFEST, CONFIG, ADAPTER)
"""The first of these that is there tells one folder from another by its hash."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
WEIGHTS = ".safetensors"
PICKLED = (".bin", ".pt", ".pth", ".ckpt")
JSON_MOST = 64 << 20
HEAD_MOST = 32 << 20
FILES_MOST = 10_000


@dataclass(frozen=True)
class Looked:
    """A folder that holds a model."""

    sha256: str
    """Of the file that tells it from others."""
    bytes: int
    facts: dict[str, Any] = field(default_factory=dict)
    """Those of told_by, architecture, model_type, vocab_size, layers, hidden_size, positions, dtype,
    parameters, tokenizer, tokens, chat_template, own_code, adapter, base, outputs, parents that are known."""


def folder_look(folder: Path) -> Looked:
    """Read what a folder says of itself. Raises ValueError with a sentence that names what is missing."""
    names = folder_check(folder)
    told_by, sha256 = identity_of(folder)
    facts = {"told_by": told_by, **_facts(folder, names)}
    known = {key: value for key, value in facts.items() if value not in (None, "", [])}
    return Looked(sha256, sum(names.values()), known)


def folder_check(folder: Path) -> dict[str, int]:
    """The size of each file of a folder that holds a model: nothing is opened.

    Raises ValueError with a sentence that names what is missing.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "is not there"
        raise ValueError(f"{folder} {what}")
    names = _names(folder)
    if CONFIG not in names and ADAPTER not in names:
        raise ValueError(f"{folder} holds no model: it has no {CONFIG} and no {ADAPTER}")
    if not any(name.endswith(WEIGHTS) for name in names):
        pickled = next((name for name in names if name.endswith(PICKLED)), "")
        more = (
            f"; {pickled} may hold code and is not read: save it as safetensors" if pickled else ""
        )
        raise ValueError(f"{folder} holds no weights (*{WEIGHTS}){more}")
    # An adapter's tokenizer may be its base's.
    if ADAPTER not in names and not any(name in names for name in TOKENIZERS):
        raise ValueError(f"{folder} holds no tokenizer: none of {', '.join(TOKENIZERS)} is there")
    return names


def identity_of(folder: Path) -> tuple[str, str]:
    """The file that tells a model's folder from others, and its SHA-256. Raises ValueError without one."""
    for name in TELLING:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                return name, hashlib.file_digest(file, "sha256").hexdigest()
    raise ValueError(f"{folder} holds no model: it has no {CONFIG} and no {ADAPTER}")


def _names(folder: Path) -> dict[str, int]:
    """Size of each file at the top of the folder, whatever links lead to it."""
    found: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if len(found) >= FILES_MOST:
                raise ValueError(
                    f"{folder} holds more than {FILES_MOST} files: it is no model's folder"
                )
            try:
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
            except OSError:
                continue  # a link to nowhere is no file of the model
    return found


def _facts(folder: Path, names: dict[str, int]) -> dict[str, Any]:
    config = _json(folder, CONFIG) if CONFIG in names else {}
    tokenizer = _json(folder, "tokenizer_config.json") if "tokenizer_config.json" in names else {}
    adapter = _json(folder, ADAPTER) if ADAPTER in names else {}
    weights = sorted(name for name in names if name.endswith(WEIGHTS))
    text = config.get("text_config")
    shape = config | text if isinstance(text, dict) else config
    labels = config.get("id2label")
    scores = str(_first(config.get("architectures"))).endswith("ForSequenceClassification")
    return {
        "architecture": _word(_first(config.get("architectures"))),
        "model_type": _word(config.get("model_type")),
        "vocab_size": _whole(shape.get("vocab_size")),
        "layers": _whole(shape.get("num_hidden_layers")),
        "hidden_size": _whole(shape.get("hidden_size")),
        "positions": _whole(shape.get("max_position_embeddings")),
        "dtype": _word(config.get("dtype") or config.get("torch_dtype")),
        "parameters": _parameters(folder, weights),
        "tokenizer": _word(tokenizer.get("tokenizer_class")),
        "tokens": _tokens(folder, names),
        "chat_template": bool(tokenizer.get("chat_template")) or "chat_template.jinja" in names,
        "own_code": bool(config.get("auto_map") or tokenizer.get("auto_map")),
        "adapter": _word(adapter.get("peft_type")),
        "base": _word(adapter.get("base_model_name_or_path")),
        "outputs": [_word(one) for one in labels.values()]
        if scores and isinstance(labels, dict)
        else [],
        "parents": _parents(folder, names),
    }


def _json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the folder. Raises ValueError that names the file."""
    path = folder / name
    if path.stat().st_size > JSON_MOST:
        raise ValueError(
            f"{name} is larger than {JSON_MOST >> 20} MiB: it is no description of a model"
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} holds no JSON object")
    return found


def _tokens(folder: Path, names: dict[str, int]) -> int | None:
    """How many tokens the tokenizer has, where a file says so plainly."""
    if "tokenizer.json" in names:
        found = _json(folder, "tokenizer.json")
        model = found.get("model")
        vocabulary = model.get("vocab") if isinstance(model, dict) else None
        added = found.get("added_tokens")
        contents = [one.get("content") for one in added or () if isinstance(one, dict)]
        if isinstance(vocabulary, dict):
            return len(vocabulary.keys() | {text for text in contents if isinstance(text, str)})
        if isinstance(vocabulary, list):
            known = {one[0] for one in vocabulary if isinstance(one, list) and one}
            return len(known | {text for text in contents if isinstance(text, str)})
    if "vocab.json" in names:
        return len(_json(folder, "vocab.json"))
    return None


def _parameters(folder: Path, weights: list[str]) -> int:
    """Numbers in the weights, as the heads of the files say. Raises ValueError for a damaged head."""
    return sum(
        math.prod(_whole(size) or 0 for size in entry["shape"])
        for name in weights
        for entry in _head(folder / name)
    )


def _head(path: Path) -> list[dict[str, Any]]:
    """The tensors that a safetensors file names."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > HEAD_MOST:
                raise ValueError("its head is too long")
            head = json.loads(file.read(length))
        tensors = [entry for name, entry in head.items() if name != "__metadata__"]
        if not all(isinstance(entry["shape"], list) for entry in tensors):
            raise ValueError("a tensor has no shape")
    except (OSError, struct.error, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path.name} is no safetensors file: {error}") from error
    return tensors


def _parents(folder: Path, names: dict[str, int]) -> list[str]:
    """SHA-256 of the manifests of what `python -m trainer merge` made this from."""
    if MERGED not in names:
        return []
    parents = _json(folder, MERGED).get("parents")
    found = [one.get("sha256") for one in parents or () if isinstance(one, dict)]
    return [sha256 for sha256 in found if isinstance(sha256, str) and len(sha256) == 64]


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def _word(value: Any) -> str:
    return value.replace("\x00", "")[:200] if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**62 else None
