"""What the API takes and gives, as it stands in OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from ninja import Field, Schema
from pydantic import ConfigDict

from orchestrator.models import State
from orchestrator.models.promotion_after import PromotionAfter
from orchestrator.models.restart_policy import RestartPolicy
from trainer.spec import RunSpec

Item = TypeVar("Item")

StageName = Literal["", "candidate", "approved", "retired"]

Number = float | str
"""A number; "NaN", "Infinity" and "-Infinity" are strings."""


class Listed(Schema, Generic[Item]):
    """One page of a list."""

    items: list[Item]
    count: int


class Strict(Schema):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class RunCreate(Strict):
    """A run to launch."""

    spec: RunSpec
    name: str = Field("", max_length=120)
    tags: list[str] = Field(default_factory=list, max_length=32)
    priority: int = Field(0, ge=-1000, le=1000)
    preemptible: bool = False
    """Let a run of higher priority take its place: it saves a checkpoint and goes on later."""
    max_restarts: int = Field(3, ge=0, le=100)
    policy: RestartPolicy = RestartPolicy()
    promotion: PromotionAfter | None = None
    """What follows by itself once it has finished."""


class SpecCheck(Schema):
    """A spec to check, valid or not; the other fields of a launch may stand beside it."""

    spec: dict[str, Any]


class Reason(Strict):
    """Why a run is stopped or paused; shown with it."""

    message: str = Field("", max_length=500)


class RunPatch(Strict):
    """What to change; fields that are left out stay."""

    name: str = Field("", max_length=120)
    tags: list[str] = Field(default_factory=list, max_length=32)
    notes: str = Field("", max_length=20_000)
    priority: int = Field(0, ge=-1000, le=1000)
    preemptible: bool = False
    max_restarts: int = Field(3, ge=0, le=100)
    policy: RestartPolicy = RestartPolicy()
    promotion: PromotionAfter | None = None
    """null takes it away; too late once it was carried out."""
    knobs: dict[str, Any] = Field(default_factory=dict)


class Primary(Schema):
    """The metric that tells whether the run learns."""

    key: str
    value: Number | None


class StallOut(Schema):
    """A trainer that says nothing for longer than its phase is expected to."""

    event: int
    """The alert, with processes, GPUs and stacks in its data: GET /runs/ID/events."""
    since: datetime
    """When its node told of it, by the node's clock."""
    phase: str
    silent_s: Number | None
    """For how long it had been silent then."""
    expected_s: Number | None
    message: str
    policy: Literal["tell", "restart", "stop"]
    outlook: str
    """What becomes of it."""


class RunOut(Schema):
    """A run."""

    id: str
    name: str
    kind: str
    state: State
    reason: str
    cause: str
    phase: str
    step: int
    total_steps: int
    attempt: int
    node: str | None
    nodes: list[str]
    """Every machine of its newest attempt, the one that leads it first."""
    spec_hash: str
    created: datetime
    started: datetime | None
    ended: datetime | None
    owner: str
    tags: list[str]
    notes: str
    recipe: str
    priority: int
    preemptible: bool
    place: int | None
    """Place in the queue while it waits; 1 is the first."""
    max_restarts: int
    restarts: int
    desired: str
    desired_by: str
    desired_at: datetime | None
    stall: StallOut | None
    knobs: dict[str, Any]
    policy: RestartPolicy
    promotion: dict[str, Any]
    """The rule, {} for none; in `begun` the comparison that it made, or the problem."""
    overrides: dict[str, Any]
    excluded_nodes: list[str]
    archived: datetime | None
    parent: str | None
    parent_step: int | None
    complete: bool
    waits_for: str | None
    last_contact: datetime | None
    latest: dict[str, Number]
    primary: Primary
    eta_seconds: float | None
    checkpoints: int


class RemovalOut(Schema):
    """The files of a deleted run on one machine."""

    run: str
    name: str
    by: str
    node: str | None
    """None is the server's own disk."""
    asked: datetime
    done: datetime | None
    bytes: int | None
    """Freed there, or about to be; null while nobody has counted."""
    rows: dict[str, int]
    """Deleted so far, by table; with the server's own part."""


class RegisteredOut(Schema):
    """What people say of a model."""

    tags: list[str]
    pinned: bool
    """Stays, whatever a keep policy or a retention rule says."""
    stage: StageName
    stage_by: str
    """Who gave it its stage."""
    stage_at: datetime | None
    note: str


class CheckpointOut(RegisteredOut):
    """Saved weights."""

    id: str
    run: str
    run_name: str
    attempt: int
    step: int
    path: str
    bytes: int
    sha256: str
    metrics: dict[str, Any]
    final: bool
    created: datetime
    deleted: datetime | None
    """When the keep policy removed the files from the disk where they were saved, or somebody deleted them."""
    deleted_by: str
    """Who deleted it; "" where the keep policy did."""
    leaves: int
    """Places where its files are still to be removed: this server, the artifact store, nodes."""
    freed: int | None
    """Bytes that went since it was deleted."""
    stored: bool
    """Whether the server has a copy of its own, which every node can read."""


class SpecOut(Schema):
    """A run's spec as launched, and as the trainer reported it."""

    spec: dict[str, Any]
    effective: dict[str, Any] | None
    sha256: str


class Curve(Schema):
    """One metric along x: points as stored, and the bucket's extremes beside each one."""

    x: list[float]
    y: list[Number]
    min: list[Number]
    max: list[Number]
    total: int
    nan: int
    nan_x: list[float]
    reduced: bool


class SampleOut(Schema):
    """One sampled answer."""

    id: int
    attempt: int
    seq: int
    step: int
    prompt_id: str
    group: int
    prompt: str
    completion: str
    finish_reason: str
    reward: Number | None
    rewards: dict[str, Any]
    advantage: Number | None
    policy_version: int | None = None
    """Optimizer steps behind the weights that drew its oldest token."""
    token_ids: list[Number | None] = []
    logps: list[Number | None] = []


class EventOut(Schema):
    """Something that happened to a run."""

    id: int
    attempt: int
    source: str
    seq: int
    time: datetime
    type: str
    data: dict[str, Any]


class LogLineOut(Schema):
    """A printed line."""

    id: int
    attempt: int
    seq: int
    time: float
    text: str


class RecipeOut(Schema):
    """A recipe, ready to launch."""

    name: str
    title: str
    summary: str
    needs: str
    takes: str
    minutes_hint: float
    rank: int
    missing: str
    spec: dict[str, Any]


class MetricHelpOut(Schema):
    """What a metric means."""

    title: str
    definition: str
    unit: str
    normaliser: str
    healthy: str
    source: str
    better: str
