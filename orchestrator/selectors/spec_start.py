"""Where a new run starts from: a recipe, another run, a method, a dataset, a model, or scratch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from orchestrator.models import Checkpoint, Dataset, Run
from orchestrator.selectors.forks import fork_name, fork_spec
from orchestrator.selectors.spec_review import spec_checked
from orchestrator.selectors.spec_schema import methods_of, section_knobs, top_knobs
from orchestrator.selectors.spec_text import spec_read
from trainer import recipebook, registry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trainer.catalog import Entry
    from trainer.recipebook import Recipe

_HELD_OUT = 256


@dataclass
class Start:
    """The first draft of a new run."""

    raw: dict[str, Any]
    recipe: str = ""
    source: str = ""
    """What it was made from, for people; "" for scratch."""
    notes: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    fork: str = ""
    """Id of the checkpoint that it is forked from."""
    policy: dict[str, Any] = field(default_factory=dict)
    max_restarts: int | None = None
    preemptible: bool = False


def recipe_cards() -> list[Recipe]:
    """The recipes, in the order of their cards."""
    return recipebook.recipes()


def start_from(query: Mapping[str, str]) -> Start:
    """The draft that the page's address asks for. Raises ValueError when it names nothing."""
    if name := query.get("recipe", ""):
        start = _from_recipe(name)
    elif key := query.get("fork", ""):
        start = _from_checkpoint(key)
    elif key := query.get("clone", ""):
        start = _from_run(key)
    elif tag := query.get("type", ""):
        start = _from_method(tag)
    else:
        start = Start(scratch())
    if dataset := query.get("dataset", ""):
        start = _with_dataset(start, dataset)
    if model := query.get("model", ""):
        start.raw = {**start.raw, "model": {**start.raw.get("model", {}), "name": model}}
        start.raw["model"].pop("warm_start", None)
        start.source = start.source or model
    start.raw = {"name": _free_name(start), **{k: v for k, v in start.raw.items() if k != "name"}}
    return start


def scratch() -> dict[str, Any]:
    """The smallest spec that runs: the defaults, with what they leave open filled in."""
    source = next(knob.default for knob in section_knobs("data.train") if knob.name == "source")
    return {
        "data": {
            "train": [{"source": source}],
            "eval": [{"source": source, "split": "test", "limit": _HELD_OUT}],
        },
        "rewards": [{"type": "exact-match"}],
    }


def _from_recipe(name: str) -> Start:
    path = recipebook.recipe_find(name)
    if path.parent != recipebook.FOLDER:
        raise ValueError(f"{name}: no such recipe")
    recipe = recipebook.recipe_read(path)
    raw = spec_read(path.read_text(encoding="utf-8"))
    notes = [f"{recipe.missing}"] if recipe.missing else []
    return Start(raw, recipe=recipe.name, source=f"recipe {recipe.title}", notes=notes)


def _from_run(key: str) -> Start:
    run = Run.objects.filter(pk=key).first()
    if run is None:
        raise ValueError(f"there is no run {key}")
    raw = run.spec if isinstance(run.spec, dict) else {}
    _, problems = spec_checked(raw)
    gone = [p.path for p in problems if p.message == "there is no such knob; remove it"]
    notes = [f"No longer a knob, left out: {', '.join(gone)}."] if gone else []
    return Start(
        {**raw, "name": run.name},
        recipe=run.recipe,
        source=f"run {run.name}",
        notes=notes,
        tags=list(run.tags),
        policy=run.policy,
        max_restarts=run.max_restarts,
        preemptible=run.preemptible,
    )


def _from_checkpoint(key: str) -> Start:
    """A fork: the spec of the checkpoint's run, started from its weights."""
    found = Checkpoint.objects.select_related("run").filter(pk=key, deleted=None).first()
    if found is None:
        raise ValueError(f"there is no checkpoint {key}, or its files were removed")
    start = _from_run(found.run_id)
    start.raw = {**fork_spec(found), "name": fork_name(found)}
    start.source = f"run {found.run.name} at step {found.step}"
    start.fork = found.pk
    return start


def _from_method(tag: str) -> Start:
    family, _, name = tag.rpartition("/")
    entry = next(
        (
            entry
            for one in ([family] if family in registry.FAMILIES else registry.FAMILIES)
            if (entry := methods_of(one).get(name)) is not None
        ),
        None,
    )
    if entry is None:
        raise ValueError(f"there is no method {tag}")
    recipe = next((r for r in recipe_cards() if _uses(r.spec, entry) and not r.missing), None)
    if recipe is not None:
        start = _from_recipe(recipe.name)
        start.source = f"{entry.type}, as in the recipe {recipe.title}"
        return start
    return Start(_with_method(scratch(), entry), source=entry.type)


def _uses(raw: dict[str, Any], entry: Entry) -> bool:
    """Whether a spec names this method."""
    for knob in top_knobs().values():
        if knob.of != entry.family:
            continue
        value = raw.get(knob.name)
        items = value if isinstance(value, list) else [value]
        if any(isinstance(item, dict) and item.get("type") == entry.type for item in items):
            return True
    train = raw.get("data", {}).get("train", [])
    return entry.role == "source" and any(item.get("source") == entry.type for item in train)


def _with_method(raw: dict[str, Any], entry: Entry) -> dict[str, Any]:
    """A spec that uses this method, with what it declares to need."""
    for knob in top_knobs().values():
        if knob.of == entry.family and knob.kind == "method":
            raw = {**raw, knob.name: {"type": entry.type}}
        elif knob.of == entry.family and knob.kind == "methods":
            raw = {**raw, knob.name: [{"type": entry.type}]}
    if entry.role == "source":
        data = {
            "train": [{"source": entry.type}],
            "eval": [{"source": entry.type, "split": "test", "limit": _HELD_OUT}],
        }
        raw = {**raw, "data": data}
    return raw


def _with_dataset(start: Start, key: str) -> Start:
    dataset = Dataset.objects.filter(pk=key).first()
    if dataset is None:
        raise ValueError(f"there is no dataset {key}")
    columns = {"columns": dict(dataset.mapping)} if dataset.mapping else {}
    item = {"source": dataset.pk, **columns}
    start.raw = {**start.raw, "data": {**start.raw.get("data", {}), "train": [item], "eval": []}}
    start.source = f"dataset {dataset.name}"
    return start


def _free_name(start: Start) -> str:
    """A name that no run has yet: the given one, or what it is made of."""
    name = str(start.raw.get("name") or "")
    if not name:
        objective = start.raw.get("objective") or {}
        train = start.raw.get("data", {}).get("train") or [{}]
        source = (
            start.source.removeprefix("dataset ")
            if start.source.startswith("dataset ")
            else train[0].get("source", "")
        )
        parts = [source, objective.get("type") or top_knobs()["objective"].default["type"]]
        name = "-".join(
            str(part).rpartition("/")[2].lower().replace(" ", "-") for part in parts if part
        )
    base = re.sub(r"-\d+$", "", name[:110])
    taken = set(Run.objects.filter(name__startswith=base).values_list("name", flat=True))
    if name not in taken:
        return name
    return next(
        f"{base}-{number}" for number in range(2, len(taken) + 3) if f"{base}-{number}" not in taken
    )
