"""What a spec needs that must be fetched first: the data of recipes that are not shipped.

Only variables that the trainer itself documents are looked at: the value of any other one is nobody's
business here, and a node may have it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from trainer import recipebook, rows
from trainer.spec import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def lacks(raw: Any) -> list[Problem]:
    """What must be downloaded, at the field that names it."""
    return list(_lacks(raw)) if isinstance(raw, dict) else []


def _lacks(raw: dict[str, Any]) -> Iterator[Problem]:
    data = raw.get("data")
    for part in ("train", "eval"):
        items = data.get(part) if isinstance(data, dict) else None
        for number, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
            name = item.get("source") if isinstance(item, dict) else None
            if message := _download(str(name or "")):
                yield Problem(path=f"data.{part}.{number}.source", message=message)
    model = raw.get("model")
    recipe = str(model.get("warm_start") or "") if isinstance(model, dict) else ""
    # A name in the book, never a path: this server's files are not for asking about.
    known = {one.name.replace("_", "-"): one for one in recipebook.recipes()}
    found = known.get(recipe.replace("_", "-"))
    if found is not None and found.missing:
        yield Problem(path="model.warm_start", message=found.missing)


def _download(name: str) -> str:
    """What to do before the files of a source are there; "" when they are, or when nobody can say."""
    variables = _VARIABLE.findall(name)
    if not variables or any(one not in rows.DOWNLOADS for one in variables):
        return ""
    for one in variables:
        if not os.environ.get(one):
            return f"not here yet: {rows.DOWNLOADS[one]}"
    try:
        rows.files_of(name)
    except ValueError as error:
        return str(error)
    return ""
