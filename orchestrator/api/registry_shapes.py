"""What the registry's routes take and give: searches, changes, lineage, external models, retention."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

from ninja import Field, Schema

from orchestrator.api.shapes import RegisteredOut, StageName, Strict
from orchestrator.keep_rule import KeepRule
from orchestrator.selectors.registry_lineage import descendants_of, kin_shape, lineage_of

if TYPE_CHECKING:
    from orchestrator.models import Checkpoint, External


class Search(Schema):
    """What checkpoints and external models are looked for by."""

    q: str = Field("", max_length=200)
    stage: StageName | None = None
    """Empty finds those without a stage."""
    tag: str = Field("", max_length=64)
    pinned: bool | None = None


class RegisteredPatch(Strict):
    """What to change; fields that are left out stay."""

    tags: list[str] = Field(default_factory=list, max_length=32)
    pinned: bool = False
    stage: StageName = ""
    note: str = Field("", max_length=20_000)


class ExternalPatch(RegisteredPatch):
    """The same, and the name."""

    name: str = Field("", max_length=120)


class ExternalIn(Strict):
    """A model to register: a folder or a hub model. Its files are only ever read."""

    source: str = Field(min_length=1, max_length=1000)
    """An absolute path, or a hub id such as `NAME/MODEL`."""
    revision: str = Field("", max_length=120)
    """Branch, tag or commit of a hub model."""
    name: str = Field("", max_length=120)
    """What it is called here; empty: the last part of its source."""
    node: str = Field("", max_length=64)
    """On whose disk a folder lies: empty is this server's machine, `*` every one, else a node's name."""
    tags: list[str] = Field(default_factory=list, max_length=32)
    note: str = Field("", max_length=20_000)


class ExternalOut(RegisteredOut):
    """A model that no run here made, named in specs as `external:ID`."""

    id: str
    name: str
    kind: Literal["path", "hub"]
    source: str
    revision: str
    node: str | None
    everywhere: bool
    sha256: str
    """Of manifest.json, else of config.json or adapter_config.json; "" where nobody here has read it."""
    bytes: int | None
    facts: dict[str, Any]
    """What its files say: architecture, vocabulary, tokenizer, parameters, …"""
    read: datetime | None
    owner: str
    created: datetime


class ChangeNoted(Schema):
    """One change of what people say of a model."""

    what: str
    old: Any
    new: Any
    by: str
    at: datetime
    why: str
    """The rule or the event behind it."""


class KinOut(Schema):
    """A model or a run, and how it is related to the one that was asked for."""

    kind: Literal["checkpoint", "external", "run", "model", "recipe", "gone"]
    id: str
    title: str
    note: str
    relation: str
    parents: list[KinOut]


class LineageOut(KinOut):
    """Where a model came from, and what was made from it."""

    children: list[KinOut]


class RetentionItem(Schema):
    """What becomes of one checkpoint."""

    checkpoint: str
    run: str
    run_name: str
    step: int
    bytes: int
    goes: bool
    why: list[str]
    """Why it stays; empty where it goes."""


class RetentionOut(Schema):
    """What a retention rule would do."""

    rule: KeepRule
    digest: str
    """Of what would go: send it as `expect`, so that only what was looked at is deleted."""
    deletes: int
    frees: int
    """Bytes, on all disks together."""
    keeps: int
    keeps_bytes: int
    items: list[RetentionItem]


class RetentionIn(Strict):
    """A rule to apply."""

    rule: KeepRule | None = None
    """Always to be given: there is no rule that deletes by default."""
    expect: str = Field("", max_length=16)
    """The digest that the simulation gave; with another set by now nothing is deleted (409)."""


class AppliedOut(Schema):
    """What a rule deleted; the files go bit by bit."""

    deleted: list[str]
    """Ids of checkpoints."""
    bytes: int


KinOut.model_rebuild()


def lineage_shape(thing: Checkpoint | External) -> dict[str, Any]:
    """A model's lineage as JSON."""
    children = [kin_shape(one) for one in descendants_of(thing)]
    return {**kin_shape(lineage_of(thing)), "children": children}
