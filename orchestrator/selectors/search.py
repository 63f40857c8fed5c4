"""Search over runs, checkpoints and methods."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Q
from django.urls import NoReverseMatch, reverse

from orchestrator.models import Checkpoint, Run
from orchestrator.selectors.externals import externals_list
from trainer import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

PER_GROUP = 8


@dataclass(frozen=True)
class Hit:
    """One thing found."""

    url: str
    title: str
    note: str
    state: str = ""
    icon: str = ""


def search(text: str) -> list[tuple[str, list[Hit]]]:
    """Hits by group, groups without any left out."""
    if not text:
        return []
    groups = [
        ("Runs", list(_runs(text))),
        ("Checkpoints", list(_checkpoints(text))),
        ("Methods", list(_methods(text))),
    ]
    return [(title, hits) for title, hits in groups if hits]


def _runs(text: str) -> Iterator[Hit]:
    matches = Q(name__icontains=text) | Q(pk__startswith=text.lower()) | Q(tags__contains=[text])
    for run in Run.objects.filter(matches).order_by("-created")[:PER_GROUP]:
        note = f"{run.pk} · archived" if run.archived else run.pk
        yield Hit(reverse("run", args=[run.pk]), run.name or run.pk, note, state=run.state)


def _checkpoints(text: str) -> Iterator[Hit]:
    matches = Q(pk__startswith=text.lower()) | Q(run__name__icontains=text)
    kept = Checkpoint.objects.filter(matches, deleted=None).select_related("run")
    for saved in kept.order_by("-created")[:PER_GROUP]:
        url = reverse("run-tab", args=[saved.run_id, "checkpoints"]) + f"#{saved.pk}"
        yield Hit(url, f"{saved.run.name} · step {saved.step}", saved.pk, icon="checkpoints")
    for one in externals_list(q=text, per_page=PER_GROUP)[0]:
        url = reverse("external", args=[one.pk])
        yield Hit(url, one.name, f"external · {one.source}", icon="checkpoints")


def _methods(text: str) -> Iterator[Hit]:
    try:
        page = reverse("methods")
    except NoReverseMatch:
        return
    wanted = text.lower()
    found = 0
    for family in registry.FAMILIES:
        for tag, method in registry.family(family).items():
            summary = (method.__doc__ or "").strip().partition("\n")[0]
            if wanted in tag or wanted in summary.lower():
                yield Hit(f"{page}#{family}/{tag}", tag, f"{family} · {summary}", icon="methods")
                found += 1
                if found == PER_GROUP:
                    return
