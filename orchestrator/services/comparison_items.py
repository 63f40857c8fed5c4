"""The prompts of a comparison: rows of datasets and built-in sources, each once, named by their content."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models import Dataset
from orchestrator.selectors.datasets import dataset_path
from orchestrator.services.event_fields import storable, text_storable
from trainer import registry
from trainer.answering import RESERVED, item_digest
from trainer.conversations import is_chat
from trainer.problems import Problem
from trainer.rows import rows_load
from trainer.spec import DataSource

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPTS_MOST = 20_000
PART_MOST = 120


@dataclass(frozen=True)
class Prompt:
    """One row."""

    digest: str
    part: str
    prompt: str
    """As people read it."""
    row: dict[str, Any]


def rows_of_sources(
    sources: Sequence[dict[str, Any]], *, seed: int
) -> tuple[list[Prompt], list[str], list[Problem]]:
    """Rows of `data.eval` as the trainer would read them, what was left out, and what is wrong.

    The server reads datasets that were uploaded and built-in sources; paths and hub ids are a node's to read.
    """
    found: dict[str, Prompt] = {}
    told: list[str] = []
    problems: list[Problem] = []
    for place, source in enumerate(sources):
        try:
            rows, part, left_out = _rows(source, seed)
        except ValueError as error:
            problems.append(Problem(path=f"prompts.{place}.source", message=str(error)))
            continue
        told += left_out
        before, repeated = len(found), 0
        for row in rows:
            prompt = prompt_of(row, part)
            repeated += prompt.digest in found
            found.setdefault(prompt.digest, prompt)
        if repeated:
            told.append(f"{part}: repeated rows, which count once: {repeated:,}.")
        if len(found) > PROMPTS_MOST:
            words = f"more than {PROMPTS_MOST:,} prompts; set a lower limit"
            problems.append(Problem(path=f"prompts.{place}.limit", message=words))
            break
        if len(found) == before and not repeated:
            problems.append(
                Problem(path=f"prompts.{place}.source", message=f"{part} has no prompt")
            )
    return list(found.values()), told, problems


def prompt_of(row: dict[str, Any], part: str) -> Prompt:
    """A row with its digest and its prompt in words."""
    plain = storable(json.loads(json.dumps(row, default=str)))
    kept = {key: value for key, value in plain.items() if key not in RESERVED}
    return Prompt(item_digest(kept), part[:PART_MOST], prompt_words(kept.get("prompt", "")), kept)


def prompt_words(prompt: Any) -> str:
    """A prompt as people read it: text, or the messages of a chat one below the other."""
    if isinstance(prompt, str):
        return prompt
    if is_chat(prompt):
        return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return json.dumps(prompt, ensure_ascii=False)


def _rows(source: dict[str, Any], seed: int) -> tuple[list[dict[str, Any]], str, list[str]]:
    """Rows of one source, its name, and what was left out of it. Raises ValueError."""
    name = str(source["source"])
    dataset = Dataset.objects.filter(pk=name).first() if name.isalnum() else None
    if dataset is None and name not in registry.family("data"):
        known = ", ".join(
            tag for tag, one in registry.family("data").items() if issubclass(one, registry.Source)
        )
        raise ValueError(
            f"{text_storable(name[:200])}: neither a dataset here nor a built-in source ({known}); upload "
            "the file as a dataset first"
        )
    paths = {}
    part = name
    if dataset is not None:
        path = dataset_path(dataset)
        if not path.is_file():
            raise ValueError(f"{dataset.name}: its file is not on this server any more")
        paths, part = {name: path}, dataset.name
        source = {**source, "columns": source.get("columns") or dataset.mapping}
    loaded = rows_load(
        DataSource.model_validate(source), seed=seed, wanted=frozenset({"prompt"}), datasets=paths
    )
    left_out = [f"{part}: {count:,} rows: {why}." for why, count in loaded.dropped.items()]
    return loaded.rows, part, left_out
