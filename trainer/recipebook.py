"""The recipe book: the shipped recipes, as cards and by name.

A recipe is a run spec in `trainer/recipes/NAME.toml`, so `python -m trainer run` takes the file as it
is. Its card comes from comment lines at the top of the file:

    # title: GRPO on sums
    # shows: what the reader learns from it, in a sentence or two
    # takes: 3 min on one CPU thread
    # needs: nothing                  (for people; unset variables in the paths are found by themselves)
    # rank: 10                        (optional: cards are ordered by rank, then by name)

A comment line that follows one of these and starts with white space continues it.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import rows

FOLDER = Path(__file__).parent / "recipes"
_KEYS = ("title", "shows", "takes", "needs", "rank")
_MINUTES = {"s": 1 / 60, "min": 1.0, "h": 60.0}


@dataclass(frozen=True)
class Recipe:
    """One recipe and its card."""

    name: str
    title: str
    summary: str
    needs: str
    takes: str
    minutes_hint: float
    """What `takes` says, in minutes; 0 when it says nothing."""
    rank: int
    spec: dict[str, Any]
    """The file as plain data, for `spec_parse` or the form."""
    path: Path
    missing: str
    """What must be done before it can run here, or ""."""


def recipes(folder: Path = FOLDER) -> list[Recipe]:
    """Every recipe, in the order of the cards. Raises ValueError that names a faulty file."""
    found = [recipe_read(path) for path in folder.glob("*.toml")]
    return sorted(found, key=lambda recipe: (recipe.rank, recipe.name))


def recipe_find(name: str, folder: Path = FOLDER) -> Path:
    """The file of a recipe: a name in the book (dashes and underscores alike) or a path.

    Raises ValueError that lists the names.
    """
    plain = name.removesuffix(".toml")
    if re.fullmatch(r"[\w-]+", plain):
        path = folder / f"{plain.replace('-', '_')}.toml"
        if path.is_file():
            return path
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = ", ".join(sorted(path.stem for path in folder.glob("*.toml")))
    raise ValueError(f"{name}: no such recipe or file; the recipes are {known}")


def recipe_read(path: Path) -> Recipe:
    """One recipe file. Raises ValueError that names it."""
    text = path.read_text(encoding="utf-8")
    try:
        spec = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML ({error})") from error
    card = _card(text)
    return Recipe(
        name=path.stem,
        title=card.get("title", path.stem.replace("_", " ")),
        summary=card.get("shows", ""),
        needs=card.get("needs", ""),
        takes=card.get("takes", ""),
        minutes_hint=_minutes(card.get("takes", "")),
        rank=int(card.get("rank", "50")),
        spec=spec,
        path=path,
        missing=_missing(spec, path.parent),
    )


def _card(text: str) -> dict[str, str]:
    """The `# key: value` lines at the top of the file."""
    card: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        head, separator, value = line[1:].strip().partition(":")
        if separator and head in _KEYS:
            key = head
            card[key] = value.strip()
        elif key and re.match(r"#\s{2,}\S", line):
            card[key] += " " + line[1:].strip()
        else:
            key = ""
    return card


def _minutes(takes: str) -> float:
    match = re.search(r"(\d+(?:\.\d+)?)\s*(s|min|h)\b", takes)
    return float(match[1]) * _MINUTES[match[2]] if match else 0.0


def _missing(spec: dict[str, Any], folder: Path, depth: int = 0) -> str:
    """The first thing that stops this spec, or a recipe that it starts from, from finding its data."""
    data = spec.get("data", {})
    for source in [*data.get("train", ()), *data.get("eval", ())]:
        name = str(source.get("source", ""))
        try:
            if "$" in name:
                rows.files_of(name)
        except ValueError as error:
            return str(error)
    warm_start = spec.get("model", {}).get("warm_start", "")
    if not warm_start or depth > 3:
        return ""
    try:
        path = recipe_find(warm_start, folder)
    except ValueError as error:
        return str(error)
    return _missing(tomllib.loads(path.read_text(encoding="utf-8")), path.parent, depth + 1)
