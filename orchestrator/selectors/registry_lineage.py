"""Where a model came from and what was made from it: a small tree, for a page and for REST."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Q
from django.urls import reverse

from orchestrator.models import Checkpoint, External, Run
from orchestrator.selectors.checkpoints import checkpoint_get
from orchestrator.selectors.externals import external_get, naming, runs_naming
from orchestrator.selectors.inputs import checkpoint_named, final_checkpoint
from orchestrator.selectors.run_words import method_chips, spec_of
from trainer.named_models import reward_models
from trainer.spec import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

GENERATIONS = 8
"""How far back it is followed."""
CHILDREN_MOST = 50


@dataclass
class Kin:
    """A model, or a run, and how it is related to the one below (or above) it."""

    kind: str
    """`checkpoint`, `external`, `run`, `model` (named by path, hub id or made on the spot), `recipe`, `gone`."""
    id: str
    title: str
    note: str = ""
    relation: str = ""
    """`start model`, `forked from`, `warm start`, `reference`, `merged from`, `copy of`, `adapter on`; of a child,
    what it was used for."""
    url: str = ""
    parents: list[Kin] = field(default_factory=list)


def lineage_of(thing: Checkpoint | External) -> Kin:
    """The model with its parents, theirs, and so on."""
    return _kin(thing, "", frozenset(), GENERATIONS)


def descendants_of(thing: Checkpoint | External) -> list[Kin]:
    """What was made from it, oldest first: runs, and external models that were merged or copied from it."""
    if isinstance(thing, External):
        runs = list(runs_naming(thing).order_by("created")[:CHILDREN_MOST])
        return [_used_by(run, _name_of(thing)) for run in runs]
    names = [_name_of(thing)]
    final = final_checkpoint(thing.run)
    if final is not None and final.pk == thing.pk:
        names.append(f"{RUN_PREFIX}{thing.run_id}")
    forked = Q(parent=thing.run_id, parent_step=thing.step)
    runs = list(Run.objects.filter(naming(*names) | forked).order_by("created")[:CHILDREN_MOST])
    made = External.objects.filter(
        Q(facts__parents__contains=[thing.sha256]) | Q(sha256=thing.sha256)
    )
    found = [_used_by(run, *names) for run in runs]
    if not thing.sha256:
        return found
    for one in made.order_by("created")[:CHILDREN_MOST]:
        found.append(_external(one, "copy" if one.sha256 == thing.sha256 else "merged"))
    return found


def kin_shape(kin: Kin) -> dict[str, Any]:
    """A part of the tree as JSON."""
    return {
        "kind": kin.kind,
        "id": kin.id,
        "title": kin.title,
        "note": kin.note,
        "relation": kin.relation,
        "parents": [kin_shape(one) for one in kin.parents],
    }


def _kin(
    thing: Checkpoint | External, relation: str, above: frozenset[str], generations: int
) -> Kin:
    is_external = isinstance(thing, External)
    kin = _external(thing, relation) if is_external else _checkpoint(thing, relation)
    # Whoever copied or merged in a circle must not send us round it.
    if generations > 0 and thing.pk not in above:
        parents = _of_external(thing) if is_external else _of_checkpoint(thing)
        seen = above | {thing.pk}
        kin.parents = [
            _kin(parent, how, seen, generations - 1)
            if isinstance(parent, (Checkpoint, External))
            else parent
            for how, parent in parents
        ]
    return kin


def _of_external(external: External) -> Iterator[tuple[str, Checkpoint | Kin]]:
    known = Checkpoint.objects.select_related("run", "run__owner").exclude(sha256="")
    for sha256 in external.facts.get("parents", []):
        parent = known.filter(sha256=sha256).first()
        gone = Kin("gone", "", f"a checkpoint {sha256[:12]}", "not known here", "merged from")
        yield "merged from", parent or gone
    if external.sha256 and (copied := known.filter(sha256=external.sha256).first()) is not None:
        yield "copy of", copied
    if base := external.facts.get("base"):
        yield "adapter on", Kin("model", "", str(base), "", "adapter on")


def _of_checkpoint(checkpoint: Checkpoint) -> Iterator[tuple[str, Checkpoint | External | Kin]]:
    run = checkpoint.run
    spec = spec_of(run)
    model, reference = _section(spec, "model"), _section(spec, "reference")
    start = _named(str(model.get("name") or ""))
    if run.parent_step is not None:
        is_parent = isinstance(start, Checkpoint) and start.run_id == run.parent_id
        if not is_parent:
            yield "forked from", _fork_parent(run)
        yield ("forked from" if is_parent else "start model"), start
    else:
        yield "start model", start
    if recipe := str(model.get("warm_start") or ""):
        yield (
            "warm start",
            Kin("recipe", recipe, recipe, "trained first, in the same run", "warm start"),
        )
    if name := str(reference.get("name") or ""):
        yield "reference", _named(name, "reference")
    for _, name in reward_models(spec):
        yield "reward model", _named(name, "reward model")


def _named(name: str, relation: str = "start model") -> Checkpoint | External | Kin:
    """What a spec names, as a model of ours where it is one."""
    if name.startswith(EXTERNAL_PREFIX):
        return external_get(name.removeprefix(EXTERNAL_PREFIX)) or Kin(
            "gone", name, name, "registered no more", relation
        )
    if name.startswith(CHECKPOINT_PREFIX):
        # Also one whose files were removed: it is the parent all the same.
        return checkpoint_get(name.removeprefix(CHECKPOINT_PREFIX)) or Kin(
            "gone", name, name, "its run was deleted", relation
        )
    if name.startswith(RUN_PREFIX):
        if (found := checkpoint_named(name)) is not None:
            return found
        run = Run.objects.filter(pk=name.removeprefix(RUN_PREFIX)).first()
        if run is not None:
            return _run(run, relation, "its final checkpoint")
        return Kin("gone", name, name, "it was deleted", relation)
    note = "a tiny model, made on the spot" if name == "starter" else ""
    return Kin("model", name, name or "unknown", note, relation)


def _fork_parent(run: Run) -> Kin:
    title = f"{run.parent_name or run.parent_id or 'a run'}, step {run.parent_step}"
    if run.parent is None:
        return Kin("gone", "", title, "it was deleted", "forked from")
    return _run(run.parent, "forked from", f"step {run.parent_step}")


def _checkpoint(one: Checkpoint, relation: str) -> Kin:
    note = " · ".join(method_chips(spec_of(one.run)))
    if one.deleted is not None:
        note = f"{note}; removed" if note else "removed"
    url = reverse("checkpoint", args=[one.pk])
    return Kin("checkpoint", one.pk, f"{one.run.name}, step {one.step}", note, relation, url)


def _external(one: External, relation: str) -> Kin:
    url = reverse("external", args=[one.pk])
    return Kin("external", one.pk, one.name, one.source, relation, url)


def _run(run: Run, relation: str, note: str = "") -> Kin:
    return Kin("run", run.pk, run.name or run.pk, note, relation, reverse("run", args=[run.pk]))


def _used_by(run: Run, *names: str) -> Kin:
    spec = spec_of(run)
    as_model = _section(spec, "model").get("name") in names
    if not as_model and any(name in names for _, name in reward_models(spec)):
        relation = "scored by it"
    elif run.parent_step is not None and as_model:
        relation = "fork"
    elif run.kind == "evaluate":
        relation = "evaluation"
    else:
        relation = "trained on" if as_model else "compared with it"
    return _run(run, relation, str(run.state))


def _name_of(thing: Checkpoint | External) -> str:
    prefix = EXTERNAL_PREFIX if isinstance(thing, External) else CHECKPOINT_PREFIX
    return f"{prefix}{thing.pk}"


def _section(spec: dict[str, Any], name: str) -> dict[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, dict) else {}


def flat(kin: Kin, depth: int = 0) -> Iterable[tuple[int, Kin]]:
    """The tree as rows with their depth, for a page: the model itself first."""
    yield depth, kin
    for parent in kin.parents:
        yield from flat(parent, depth + 1)
