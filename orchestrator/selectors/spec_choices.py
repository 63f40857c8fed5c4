"""What a spec can name: models to start from, sources of rows, and whether a name exists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, Dataset, External, Run, State
from orchestrator.selectors.datasets import datasets_chosen_from
from orchestrator.selectors.externals import external_get, where_words
from orchestrator.selectors.knob_text import number_text
from orchestrator.selectors.reward_models import reward_model_problem, reward_models_chosen_from
from orchestrator.selectors.spec_schema import built_in_sources
from trainer.named_models import reward_models
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 60
_ID = re.compile(r"[a-z2-7]{12}")
_STARTABLE = (State.FINISHED, State.STOPPED, State.RUNNING, State.STARTING, State.QUEUED)


@dataclass(frozen=True)
class Choice:
    """One thing that a field can name."""

    value: str
    label: str


def model_choices() -> dict[str, list[Choice]]:
    """Models to start from, by heading."""
    runs = [
        Choice(f"{RUN_PREFIX}{run.pk}", f"{run.name} · {run.state}, step {run.step}")
        for run in Run.objects.filter(kind="train", state__in=_STARTABLE).order_by("-created")[
            :_MOST
        ]
    ]
    saved = Checkpoint.objects.filter(deleted=None).select_related("run").order_by("-created")
    checkpoints = [
        Choice(f"{CHECKPOINT_PREFIX}{one.pk}", f"{one.run.name} · step {one.step}{_score(one)}")
        for one in saved[:_MOST]
    ]
    found = {
        "Built in": [Choice("starter", "starter · tiny Llama, characters, made on the spot")],
        "A run's final checkpoint": runs,
        "A checkpoint": checkpoints,
        "External": [
            Choice(f"{EXTERNAL_PREFIX}{one.pk}", f"{one.name} · {one.source}")
            for one in External.objects.order_by("-created")[:_MOST]
        ],
    }
    return {heading: choices for heading, choices in found.items() if choices}


def reward_model_choices() -> dict[str, list[Choice]]:
    """Models that can score, by heading."""
    return {
        heading: [Choice(value, label) for value, label in choices]
        for heading, choices in reward_models_chosen_from().items()
    }


def data_choices() -> dict[str, list[Choice]]:
    """Sources of rows, by heading."""
    built_in = [
        Choice(entry.type, f"{entry.type} · {entry.summary}")
        for entry in built_in_sources().values()
    ]
    uploaded = [
        Choice(one.pk, f"{one.name} · {one.rows} rows") for one in datasets_chosen_from()[:_MOST]
    ]
    found = {"Built in": built_in, "Uploaded": uploaded}
    return {heading: choices for heading, choices in found.items() if choices}


def names_explained(raw: Any) -> dict[str, str]:
    """Path -> what the id there stands for, for people."""
    found = {}
    for path, name in _names(raw):
        thing = _thing(path, name)
        if isinstance(thing, Run):
            found[path] = (
                f"{thing.name}: {thing.state}, step {thing.step} of {thing.total_steps or '?'}"
            )
        elif isinstance(thing, Checkpoint):
            found[path] = f"{thing.run.name}, step {thing.step}{_score(thing)}"
        elif isinstance(thing, External):
            found[path] = f"{thing.name}: {thing.source} on {where_words(thing)}"
        elif isinstance(thing, Dataset):
            found[path] = f"{thing.name}: {thing.rows} rows with {', '.join(thing.columns[:6])}"
    return found


def name_problems(raw: Any) -> list[Problem]:
    """Ids that name nothing here, or no reward model where one is wanted."""
    found = []
    for path, name in _names(raw):
        kind = _kind(path, name)
        message = ""
        if kind and _thing(path, name) is None:
            message = f"there is no {kind} {name.rpartition(':')[2]} here"
        elif path.startswith("rewards."):
            message = reward_model_problem(name)
        if message:
            found.append(Problem(path=path, message=message))
    return found


def columns_filled(raw: dict[str, Any]) -> dict[str, Any]:
    """A draft in which uploaded datasets without `columns` have the mapping of their upload."""
    data = raw.get("data")
    if not isinstance(data, dict):
        return raw
    filled = dict(data)
    for part in ("train", "eval"):
        items = data.get(part)
        if isinstance(items, (list, tuple)):
            filled[part] = [_with_columns(item) for item in items]
    return {**raw, "data": filled}


def _with_columns(item: Any) -> Any:
    if not isinstance(item, dict) or item.get("columns"):
        return item
    name = str(item.get("source", ""))
    dataset = Dataset.objects.filter(pk=name).first() if _ID.fullmatch(name) else None
    return {**item, "columns": dict(dataset.mapping)} if dataset and dataset.mapping else item


def _names(raw: Any) -> Iterator[tuple[str, str]]:
    """Every place of a draft that may name something of ours."""
    if not isinstance(raw, dict):
        return
    for section in ("model", "reference"):
        value = raw.get(section)
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            yield f"{section}.name", value["name"].strip()
    yield from reward_models(raw)
    data = raw.get("data")
    for part in ("train", "eval"):
        items = data.get(part) if isinstance(data, dict) else None
        for number, item in enumerate(items if isinstance(items, (list, tuple)) else ()):
            if isinstance(item, dict) and isinstance(item.get("source"), str):
                yield f"data.{part}.{number}.source", item["source"].strip()


def _kind(path: str, name: str) -> str:
    """What the name promises to be: "run", "checkpoint", "external model", "dataset", or "" for anything else."""
    if path.startswith("data."):
        is_id = _ID.fullmatch(name) and name not in built_in_sources()
        return "dataset" if is_id else ""
    if name.startswith(RUN_PREFIX):
        return "run"
    if name.startswith(EXTERNAL_PREFIX):
        return "external model"
    return "checkpoint" if name.startswith(CHECKPOINT_PREFIX) else ""


def _thing(path: str, name: str) -> Run | Checkpoint | External | Dataset | None:
    kind, key = _kind(path, name), name.rpartition(":")[2]
    if not _ID.fullmatch(key):
        return None
    if kind == "run":
        return Run.objects.filter(pk=key).first()
    if kind == "checkpoint":
        return Checkpoint.objects.filter(pk=key, deleted=None).select_related("run").first()
    if kind == "external model":
        return external_get(key)
    return Dataset.objects.filter(pk=name).first() if kind == "dataset" else None


def _score(checkpoint: Checkpoint) -> str:
    """The first evaluated metric of a checkpoint, for telling them apart."""
    for key, value in sorted(checkpoint.metrics.items()):
        if key.startswith("eval/") and isinstance(value, (int, float)):
            return f", {key} {number_text(round(float(value), 4))}"
    return ""
