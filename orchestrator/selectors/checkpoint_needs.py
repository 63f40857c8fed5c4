"""What hangs on a checkpoint: runs that have not ended and need it, and what was made from it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from orchestrator.models import ENDED, Checkpoint, External, Run
from orchestrator.selectors.inputs import final_checkpoint
from trainer.named_models import CHECKPOINT_PREFIX, RUN_PREFIX, reward_models

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.models import QuerySet

OWN_RUN = "its run has not ended: until then the run's own keep policy decides"


def needs_of(saved: Sequence[Checkpoint]) -> dict[str, tuple[str, ...]]:
    """By id of each that a run needs which has not ended: why, in words.

    A run's own checkpoints are its trainer's until it ends: it counts what lies there while it saves, goes on from
    the newest one, and may be sent back to an earlier one.
    """
    found: dict[str, list[str]] = defaultdict(list)
    going_on = Run.objects.exclude(state__in=ENDED)
    alive = set(going_on.values_list("pk", flat=True))
    for one in saved:
        if one.run_id in alive:
            found[one.pk].append(OWN_RUN)
    for pk, name, _, named in _named(going_on):
        for checkpoint in named:
            found[checkpoint].append(f"{name or pk} needs it and has not ended")
    wanted = {one.pk for one in saved}
    return {pk: tuple(dict.fromkeys(why)) for pk, why in found.items() if pk in wanted}


def children_of(saved: Sequence[Checkpoint]) -> dict[str, tuple[str, ...]]:
    """By id of each that something was made from: the names of those runs and external models, oldest first."""
    found: dict[str, list[str]] = defaultdict(list)
    places = {(one.run_id, one.step): one.pk for one in saved}
    by_hash = {one.sha256: one.pk for one in saved}
    # An evaluation and a playground make nothing of what they load.
    for pk, name, parent, named in _named(Run.objects.filter(kind="train")):
        for checkpoint in {*named, places.get(parent, "")} - {""}:
            found[checkpoint].append(name or pk)
    for name, parents in External.objects.order_by("created").values_list("name", "facts__parents"):
        for sha256 in parents or ():
            if sha256 in by_hash:
                found[by_hash[sha256]].append(name)
    wanted = set(places.values())
    return {pk: tuple(dict.fromkeys(names)) for pk, names in found.items() if pk in wanted}


def _named(
    runs: QuerySet[Run],
) -> Iterator[tuple[str, str, tuple[str | None, int | None], set[str]]]:
    """Of each run: its id, its name, the run and step it was forked from, the checkpoints its spec names."""
    rows = runs.order_by("created").values_list(
        *("pk", "name", "parent", "parent_step"),
        *("spec__model__name", "spec__reference__name", "spec__play__models", "spec__rewards"),
    )
    finals: dict[str, str] = {}
    for pk, name, parent, step, model, reference, played, rewards in rows:
        named = set()
        scored = (one for _, one in reward_models({"rewards": rewards}))
        for text in (model, reference, *(played or ()), *scored):
            if not isinstance(text, str):
                continue
            if text.startswith(CHECKPOINT_PREFIX):
                named.add(text.removeprefix(CHECKPOINT_PREFIX))
            elif text.startswith(RUN_PREFIX):
                named.add(_final(text.removeprefix(RUN_PREFIX), finals))
        yield pk, name, (parent, step), named - {""}


def _final(run_id: str, known: dict[str, str]) -> str:
    """The id of what a run hands to its followers; "" without one."""
    if run_id not in known:
        run = Run.objects.filter(pk=run_id).first()
        found = final_checkpoint(run) if run else None
        known[run_id] = found.pk if found else ""
    return known[run_id]
