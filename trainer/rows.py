"""From a data source of the spec to rows: find, read, rename, split, transform, check, limit.

Columns after this: `prompt`, and by kind of objective `completion`, or `chosen` and `rejected`, or
`completion` with `rating` or `label`, or nothing; `answer` and every other column stay for the rewards.
Two names are understood without a mapping, so that GSM8K's own files work as they are: `question` where
there is no `prompt`, and, for demonstrations, `answer` where there is no `completion`. Rows that hold
whole conversations (`messages`, or `chosen` and `rejected` as lists of messages) are taken apart, see
trainer/conversations.py.
"""

from __future__ import annotations

import glob
import hashlib
import importlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import registry, tables
from trainer.conversations import is_chat, unfolded
from trainer.methods import Row, Source
from trainer.ratings import COLUMN as RATING
from trainer.ratings import qualities_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trainer.spec import DataSource

BUILT_IN_ROWS = 10_000
"""Rows taken from an endless built-in source whose `limit` is 0."""
BUILT_IN_HOLDOUT = 0.1
"""Share of a built-in source's prompts that belong to its test split."""
ALIASES = {"prompt": ("question",), "completion": ("answer",)}
"""Names that stand in for a missing column."""
PATIENCE = 20_000
"""Rows of a built-in source that may be skipped in a row before its split counts as empty."""
DOWNLOADS = {
    "ANNEAL_GSM8K_DIR": "download train.jsonl and example_model_solutions.jsonl from "
    "https://github.com/openai/grade-school-math/tree/master/grade_school_math/data "
    "into a folder and set ANNEAL_GSM8K_DIR to it",
}
"""What to do when a variable in a path is unset."""

_LABELS: dict[Any, bool] = {
    True: True,
    False: False,
    "true": True,
    "false": False,
    "1": True,
    "0": False,
}
"""What a label may look like; 1 and 0 equal true and false."""
_TEXT_OR_CHAT = frozenset({"prompt", "completion", "chosen", "rejected"})


@dataclass
class Loaded:
    """The rows of one source."""

    rows: list[Row]
    dropped: dict[str, int] = field(default_factory=dict)
    """Why rows were left out -> how many."""
    origin: str = ""
    """Where the rows came from, for people: a built-in source, files, or a hub dataset."""


def rows_load(
    source: DataSource,
    *,
    seed: int,
    wanted: frozenset[str],
    datasets: Mapping[str, Path] | None = None,
) -> Loaded:
    """The rows of `source`, each with the `wanted` columns. Raises ValueError that says what to change.

    `datasets` maps dataset ids to their files.
    """
    read, origin = _read(source, seed, datasets or {})
    rows = [_renamed(row, source.columns, origin) for row in read]
    if not rows:
        raise ValueError(f"{origin}: holds no rows")
    if source.split_by:
        rows = _side(rows, source, origin)
    if source.transform is not None:
        rows = _transformed(rows, source, origin)
    rows = _unfolded(rows, origin)
    rows = _with_aliases(rows, wanted)
    rows, dropped = _checked(rows, wanted, origin)
    return Loaded(rows[: source.limit or None], dropped, origin)


def is_test(value: Any, *, holdout: float, seed: int = 0) -> bool:
    """Whether rows with this value belong to the test side: a pure function of value and seed."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    digest = hashlib.sha256(f"{seed}/{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < holdout * 2**64


def expand(path: str) -> str:
    """The path with `~` and variables such as `${ANNEAL_GSM8K_DIR}` filled in.

    Raises ValueError for an unset variable, and for any other than `ANNEAL_…_DIR`: a path shows up in logs and
    errors, where a node's secrets must not.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if not re.fullmatch(r"ANNEAL_\w+_DIR", name):
            raise ValueError(f"{path}: only variables named ANNEAL_…_DIR are filled in, not {name}")
        value = os.environ.get(name, "")
        if not value:
            advice = DOWNLOADS.get(name, f"set {name} to the folder that holds the file")
            raise ValueError(f"{path}: {name} is not set; {advice}")
        return value

    return os.path.expanduser(re.sub(r"\$\{(\w+)\}|\$(\w+)", value_of, path))


def _read(source: DataSource, seed: int, datasets: Mapping[str, Path]) -> tuple[Iterable[Row], str]:
    """Rows as the source holds them, and its name for people."""
    method = registry.family("data").get(source.source)
    if method is not None and issubclass(method, Source):
        if source.split_by:
            raise ValueError(
                f"{source.source}: a built-in source has a test split of its own; remove split_by"
            )
        built = method(type=source.source, **source.options)  # type: ignore[call-arg]
        count = source.limit or BUILT_IN_ROWS
        return islice(_one_side(built, source, seed), count), source.source
    if source.source in datasets:
        return tables.table_rows(datasets[source.source]), f"dataset {source.source}"
    paths = files_of(source.source)
    if paths:
        return _chained(paths), ", ".join(str(path) for path in paths)
    return _hub_rows(source)


def _one_side(built: Source, source: DataSource, seed: int) -> Iterator[Row]:
    """The rows of the wanted split only; no prompt of a built-in source is on both sides."""
    split = source.split
    if split not in ("train", "test"):
        raise ValueError(f'{source.source}: split is "train" or "test", not "{split}"')
    if built.own_split:
        yield from built.rows(split, seed)
        return
    skipped = 0
    for row in built.rows(split, seed):
        if is_test(row.get("prompt"), holdout=BUILT_IN_HOLDOUT) == (split == "test"):
            skipped = 0
            yield row
        elif (skipped := skipped + 1) > PATIENCE:
            raise ValueError(
                f"{source.source}: has too few different prompts for a {split} split; "
                "raise the options that make it larger"
            )


def files_of(name: str) -> list[Path]:
    """The files that a path or pattern names; none when it looks like a hub id instead."""
    text = expand(name)
    path = Path(text)
    if path.exists():
        return [path]
    found = [Path(item) for item in sorted(glob.glob(text, recursive=True))]
    if found:
        return found
    looks_like_a_path = text != name or text.startswith((".", "/", "~")) or glob.has_magic(text)
    if looks_like_a_path or path.suffix.lower() in {*tables.FORMATS, ".gz"}:
        known = ", ".join(
            tag for tag, method in registry.family("data").items() if issubclass(method, Source)
        )
        raise ValueError(f"{text}: no such file (from {Path.cwd()}); built-in sources are {known}")
    return []


def _chained(paths: Sequence[Path]) -> Iterator[Row]:
    for path in paths:
        yield from tables.table_rows(path)


def _hub_rows(source: DataSource) -> tuple[Iterable[Row], str]:
    """Rows of a hub dataset, `owner/name` or `owner/name:configuration`."""
    name, _, configuration = source.source.partition(":")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        known = ", ".join(
            tag for tag, method in registry.family("data").items() if issubclass(method, Source)
        )
        raise ValueError(
            f"{source.source}: not a built-in source ({known}), a dataset here, a file, or a hub id"
            " (owner/name)"
        )
    try:
        hub: Any = importlib.import_module("datasets")  # optional and heavy
    except ImportError as error:
        raise ValueError(
            f"{source.source}: no such file; to read it from the hub, `pip install datasets`"
        ) from error
    part = "train" if source.split_by else source.split
    try:
        found = hub.load_dataset(name, configuration or None, split=part, streaming=False)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{source.source}: cannot be read from the hub ({reason})") from error
    return (dict(row) for row in found), f"hub {source.source} ({part})"


def _renamed(row: Row, columns: Mapping[str, str], origin: str) -> Row:
    if not columns:
        return row
    missing = [name for name in columns if name not in row]
    if missing:
        raise ValueError(
            f"{origin}: columns renames '{missing[0]}', but the columns are {', '.join(row)}"
        )
    # A column that would be overwritten by a renamed one gives way.
    kept = {name: value for name, value in row.items() if name not in columns}
    return kept | {ours: row[theirs] for theirs, ours in columns.items()}


def _side(rows: list[Row], source: DataSource, origin: str) -> list[Row]:
    if source.split not in ("train", "test"):
        raise ValueError(
            f'{origin}: with split_by, split is "train" or "test", not "{source.split}"'
        )
    name = source.split_by
    if all(name not in row for row in rows):
        raise ValueError(
            f"{origin}: split_by names '{name}', but the columns are {', '.join(rows[0])}"
        )
    wants_test = source.split == "test"
    kept = [
        row
        for row in rows
        if is_test(row.get(name), holdout=source.holdout, seed=source.split_seed) == wants_test
    ]
    if not kept:
        raise ValueError(
            f"{origin}: no value of '{name}' falls on the {source.split} side; change holdout"
        )
    return kept


def _transformed(rows: list[Row], source: DataSource, origin: str) -> list[Row]:
    assert source.transform is not None
    try:
        made = source.transform.apply(rows)
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from error
    if not made:
        tag = getattr(source.transform, "type", "")
        raise ValueError(f"{origin}: the transform {tag} made no rows of {len(rows)}")
    return made


def _unfolded(rows: list[Row], origin: str) -> list[Row]:
    found = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(unfolded(row))
        except ValueError as error:
            raise ValueError(f"{origin}: row {number}: {error}") from error
    return found


def _with_aliases(rows: list[Row], wanted: frozenset[str]) -> list[Row]:
    """Fill a wanted column that no row has from the well-known name that stands for it."""
    present = {name for row in rows for name in row}
    # "prompt" first: the answer that becomes a completion also stays, for the rewards.
    for name in sorted(wanted - present, key=lambda name: name != "prompt"):
        stand_in = next((other for other in ALIASES.get(name, ()) if other in present), "")
        if stand_in:
            rows = [{**row, name: row[stand_in]} if stand_in in row else row for row in rows]
    return rows


def _checked(
    rows: list[Row], wanted: frozenset[str], origin: str
) -> tuple[list[Row], dict[str, int]]:
    """Rows that have what is wanted, and why others were dropped. Raises ValueError on a wrong type."""
    present = list(dict.fromkeys(name for row in rows for name in row))
    for name in sorted(wanted, key=lambda name: name != "prompt"):
        if name not in present:
            raise ValueError(_missing(name, present, wanted, origin))
    if RATING in wanted:
        qualities_of(rows, origin)
    dropped: Counter[str] = Counter()
    kept: list[Row] = []
    for number, row in enumerate(rows, start=1):
        empty = sorted(name for name in wanted if row.get(name) in (None, "", []))
        if empty:
            dropped[f"{empty[0]} is empty"] += 1
            continue
        for name in wanted & _TEXT_OR_CHAT:
            _check_text(row[name], name, f"{origin}: row {number}")
        if "label" in wanted:
            row = {**row, "label": _as_label(row["label"], f"{origin}: row {number}")}
        if {"chosen", "rejected"} <= wanted and row["chosen"] == row["rejected"]:
            dropped["chosen equals rejected"] += 1
            continue
        kept.append(row)
    if not kept:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in dropped.items())
        raise ValueError(f"{origin}: no row can be used: {reasons}")
    return kept, dict(dropped)


def _as_label(value: Any, where: str) -> bool:
    """Good or bad; tables of text say it in words."""
    word = value.strip().lower() if isinstance(value, str) else value
    if isinstance(word, (str, int, float)) and word in _LABELS:
        return _LABELS[word]
    raise ValueError(f"{where}: 'label' is {value!r}; it must be true or false")


def _missing(name: str, present: Sequence[str], wanted: frozenset[str], origin: str) -> str:
    free = [column for column in present if column not in wanted]
    example = free[0] if free else present[0]
    return (
        f"{origin}: no column '{name}'; the columns are {', '.join(present)}. "
        f'Map one with columns, for example columns = {{ {_key(example)} = "{name}" }}'
    )


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def _check_text(value: Any, name: str, where: str) -> None:
    if isinstance(value, str) or is_chat(value):
        return
    kinds = {bool: "true or false", int: "a number", float: "a number", dict: "an object"}
    kind = kinds.get(type(value), "a list that is not chat messages")
    raise ValueError(
        f"{where}: '{name}' is {kind}; it must be text, or chat messages with role and content"
    )
