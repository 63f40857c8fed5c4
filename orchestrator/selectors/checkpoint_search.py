"""Which checkpoints a question finds: words, metrics with a bound, a stage, a tag, a run, a pin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db.models import Q
from django.db.models.fields.json import KeyTransform

from orchestrator.models import Checkpoint

if TYPE_CHECKING:
    from django.db.models import QuerySet

ASKED = re.compile(r"(\S+?)\s*(>=|<=|>|<)\s*(-?\d+(?:\.\d*)?(?:e-?\d+)?)", re.IGNORECASE)
LOOKUPS = {">": "gt", ">=": "gte", "<": "lt", "<=": "lte"}
WORDS_OF_NUMBERS = ["NaN", "Infinity", "-Infinity"]


@dataclass(frozen=True)
class Asked:
    """What is looked for; what is left out finds all."""

    q: str = ""
    """Words of run, tag, owner or id; a metric's name; a metric with a bound, such as `eval/loss < 0.5`."""
    run: str = ""
    """Id of a run."""
    stage: str | None = None
    """An empty one finds those without."""
    tag: str = ""
    pinned: bool | None = None
    final: bool | None = None
    removed: bool = False
    """Also those whose files are gone."""


def checkpoints_matching(asked: Asked) -> tuple[QuerySet[Checkpoint], list[str]]:
    """Checkpoints, in no order, and the metrics that the words name."""
    found = Checkpoint.objects.all() if asked.removed else Checkpoint.objects.filter(deleted=None)
    if asked.run:
        found = found.filter(run=asked.run)
    if asked.stage is not None:
        found = found.filter(stage=asked.stage)
    if asked.tag:
        found = found.filter(tags__contains=[asked.tag])
    if asked.pinned is not None:
        found = found.filter(pinned=asked.pinned)
    if asked.final is not None:
        found = found.filter(final=asked.final)
    return _worded(found, asked.q)


def _worded(found: QuerySet[Checkpoint], text: str) -> tuple[QuerySet[Checkpoint], list[str]]:
    keys: list[str] = []
    for key, sign, number in ASKED.findall(text):
        name = f"asked_{len(keys)}"
        found = found.alias(**{name: KeyTransform(key, "metrics")})
        # JSON orders words before numbers: a NaN must not pass for a small loss.
        found = found.exclude(**{f"{name}__in": WORDS_OF_NUMBERS})
        found = found.filter(**{f"{name}__{LOOKUPS[sign]}": float(number)})
        keys.append(key)
    for word in ASKED.sub(" ", text).split():
        if "/" in word:
            found = found.filter(metrics__has_key=word)
            keys.append(word)
        else:
            tagged = Q(tags__contains=[word]) | Q(run__tags__contains=[word])
            ids = Q(pk__startswith=word.lower()) | Q(run__pk__startswith=word.lower())
            owner = Q(run__owner__username__iexact=word)
            found = found.filter(Q(run__name__icontains=word) | tagged | ids | owner)
    return found, keys
