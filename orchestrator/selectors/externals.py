"""External models as people ask for them, and on which machines one can be read."""

from __future__ import annotations

import platform
from itertools import product
from typing import TYPE_CHECKING, Any

from django.db.models import Q

from orchestrator.models import ENDED, External, Run, Source
from trainer.named_models import EXTERNAL_PREFIX, reward_knobs, reward_models

if TYPE_CHECKING:
    from orchestrator.models import Node


def externals_list(
    *,
    q: str = "",
    stage: str | None = None,
    tag: str = "",
    pinned: bool | None = None,
    page: int = 1,
    per_page: int = 100,
) -> tuple[list[External], int]:
    """One page of external models, newest first, and how many there are."""
    found = External.objects.select_related("owner", "node")
    if stage is not None:
        found = found.filter(stage=stage)
    if tag:
        found = found.filter(tags__contains=[tag])
    if pinned is not None:
        found = found.filter(pinned=pinned)
    for word in q.replace("\x00", "").split():
        ids = Q(pk__startswith=word.lower()) | Q(owner__username__iexact=word)
        said = Q(name__icontains=word) | Q(source__icontains=word) | Q(tags__contains=[word])
        found = found.filter(ids | said)
    start = (page - 1) * per_page
    shown = list(found.order_by("-created", "pk")[start : start + per_page])
    # A page that is not full is the last one: nothing is to be counted.
    is_last = len(shown) < per_page and (shown or page == 1)
    return shown, start + len(shown) if is_last else found.count()


def external_get(external_id: str) -> External | None:
    """One external model with its owner and its node."""
    return External.objects.select_related("owner", "node").filter(pk=external_id).first()


def models_of(spec: dict[str, Any]) -> dict[str, str]:
    """Every model that a spec names: field -> name. A playground has its own in `play.models`, rewards theirs."""
    found = {f"{part}.name": spec.get(part, {}).get("name", "") for part in ("model", "reference")}
    played = spec.get("play", {}).get("models", [])
    found |= {f"play.models.{place}": name for place, name in enumerate(played)}
    return found | dict(reward_models(spec))


def external_names(spec: dict[str, Any]) -> list[str]:
    """The external models that a spec names, as `external:ID`."""
    return [name for name in models_of(spec).values() if name.startswith(EXTERNAL_PREFIX)]


def external_named(name: str) -> External | None:
    """What `external:ID` stands for, if it is there."""
    return external_get(name.removeprefix(EXTERNAL_PREFIX))


def external_place(external: External) -> dict[str, Any]:
    """What a node needs to find an external model."""
    return {
        "external": external.pk,
        "name": external.name,
        "kind": str(external.kind),
        "source": external.source,
        "revision": external.revision,
        "sha256": external.sha256,
    }


def where_words(external: External) -> str:
    """On which machines the model can be read, in words."""
    if external.kind == Source.HUB:
        return "the hub"
    if external.everywhere:
        return "every machine"
    return external.node.name if external.node else "this server"


def is_here(external: External) -> bool:
    """Whether this server may look into the folder."""
    if external.kind == Source.HUB:
        return False
    return external.node is None or external.node.local


def external_in_reach(external: External, node: Node) -> bool:
    """Whether a run on `node` can read the model, as far as anybody here knows."""
    if external.kind == Source.HUB or external.everywhere:
        return True
    if external.node is not None:
        return external.node.pk == node.pk
    return node.local or node.inventory.get("host") == platform.node()


def runs_naming(external: External) -> Any:
    """Every run whose spec names it, newest first."""
    name = f"{EXTERNAL_PREFIX}{external.pk}"
    named = naming(name) | Q(spec__play__models__contains=[name])
    return Run.objects.filter(named).order_by("-created")


def naming(*names: str) -> Q:
    """Runs that train, compare or score with a model of these names."""
    found = Q(spec__model__name__in=names) | Q(spec__reference__name__in=names)
    for name, (tag, knob) in product(names, reward_knobs()):
        found |= Q(spec__rewards__contains=[{"type": tag, knob: name}])
    return found


def runs_needing(external: External) -> list[Run]:
    """Runs that have not ended and name it."""
    return list(runs_naming(external).exclude(state__in=ENDED))


def external_shape(external: External) -> dict[str, Any]:
    """An external model as JSON."""
    return {
        "id": external.pk,
        "name": external.name,
        "kind": str(external.kind),
        "source": external.source,
        "revision": external.revision,
        "node": external.node.name if external.node else None,
        "everywhere": external.everywhere,
        "sha256": external.sha256,
        "bytes": external.bytes,
        "facts": external.facts,
        "read": external.read,
        "owner": external.owner.get_username(),
        "created": external.created,
        **registered_shape(external),
    }


def registered_shape(thing: Any) -> dict[str, Any]:
    """What people say of a checkpoint or an external model, as JSON."""
    return {
        "tags": thing.tags,
        "pinned": thing.pinned,
        "stage": str(thing.stage),
        "stage_by": thing.stage_by,
        "stage_at": thing.stage_at,
        "note": thing.note,
    }
