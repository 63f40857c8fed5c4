"""Runs and their attempts."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.ids import new_id
from orchestrator.models.node import Node


class State(models.TextChoices):
    """What people see of a run; computed from the facts by `models.state.shown_state`."""

    DRAFT = "draft"
    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FINISHED = "finished"
    FAILED = "failed"
    LOST = "lost"


ENDED = frozenset({State.STOPPED, State.FINISHED, State.FAILED})
"""States that nothing leaves by itself."""


class Desired(models.TextChoices):
    """What people want of a run."""

    RUN = "run"
    PAUSE = "pause"
    STOP = "stop"


class Process(models.TextChoices):
    """Where the current attempt's process is, as far as the database knows."""

    NONE = "none"  # no attempt is under way
    DISPATCHED = "dispatched"  # an order was sent, nobody claimed it yet
    CLAIMED = "claimed"  # a node has the lease, the trainer is not at work yet
    ALIVE = "alive"  # the trainer is at work
    EXITED = "exited"  # the attempt ended, `cause` says how


class Run(models.Model):
    """One post-training run: what was asked, what is known of it, and the newest figures."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=16, default="train")
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="runs"
    )
    tags = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    notes = models.TextField(default="", blank=True)
    spec = models.JSONField()
    """As launched; validated on access, never re-modelled as columns."""
    recipe = models.CharField(max_length=64, default="", blank=True)
    effective_spec = models.JSONField(null=True)
    """As the trainer reported it, with what it probed at start."""
    spec_hash = models.CharField(max_length=64, default="")
    """Hash that the trainer reported of the effective spec."""
    waits_for = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="followers"
    )
    """The run whose final checkpoint this one starts from."""
    parent = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="forks"
    )
    """The run that this one was forked from."""
    parent_step = models.BigIntegerField(null=True)
    parent_name = models.CharField(max_length=120, default="", blank=True)
    """What the parent was called, also once it is deleted."""
    priority = models.IntegerField(default=0)
    preemptible = models.BooleanField(default=False)
    """Its owner lets a run of higher priority take its place: it saves a checkpoint and goes on later."""
    max_restarts = models.PositiveIntegerField(default=3)
    restarts = models.PositiveIntegerField(default=0)
    policy = models.JSONField(default=dict)
    """A `RestartPolicy`; {} is the usual one."""
    promotion = models.JSONField(default=dict, blank=True)
    """A `PromotionAfter`, {} for none; `begun` once it was carried out: {comparison, problem}."""
    overrides = models.JSONField(default=dict)
    """Knobs by spec path that a restart changed."""
    voids = models.JSONField(default=list)
    """[attempt, step] of each rollback: what attempts up to that one did behind that step is void."""
    excluded_nodes = ArrayField(models.CharField(max_length=64), default=list)
    """Names of nodes that a log rule has ruled out."""

    # What the newest plan says of it while it waits; who starts, starts without them.
    place = models.PositiveIntegerField(null=True)
    """In the line; 1 is the first."""
    held = ArrayField(models.CharField(max_length=12), default=list, blank=True)
    """Ids of the nodes on which room is held for it."""
    has_turn = models.BooleanField(default=False)
    """Whether it stays before all others of its priority until it starts."""
    starts_by = models.DateTimeField(null=True)
    """When the held room is ready at the latest, rounded up to five minutes; None while nobody can tell."""
    leaves_for = models.CharField(max_length=12, default="", blank=True)
    """The run for which this one, at work, was asked to give way; "" for most."""

    # The five facts. State is the pure function of them, kept in a column for lists and filters.
    desired = models.CharField(max_length=8, choices=Desired, default=Desired.RUN)
    desired_by = models.CharField(max_length=150, default="", blank=True)
    desired_at = models.DateTimeField(null=True)
    process = models.CharField(max_length=12, choices=Process, default=Process.NONE)
    last_contact = models.DateTimeField(null=True)
    expect_next_in = models.FloatField(default=30)
    """Seconds within which the trainer promised to speak again."""
    phase = models.CharField(max_length=32, default="", blank=True)
    complete = models.BooleanField(default=False)
    """Every journalled line of the ended attempts has arrived."""

    state = models.CharField(max_length=12, choices=State, default=State.QUEUED, db_index=True)
    cause = models.CharField(max_length=24, default="", blank=True)
    reason = models.TextField(default="", blank=True)
    """One sentence: why it waits, who stopped it, what failed."""

    attempt = models.PositiveIntegerField(default=0)
    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="runs"
    )
    step = models.BigIntegerField(default=0)
    total_steps = models.BigIntegerField(default=0)
    latest = models.JSONField(default=dict)
    """Newest value of each metric, non-finite ones as strings."""
    knobs = models.JSONField(default=dict)
    """Live-changed knobs by spec path."""
    asks = models.JSONField(default=dict)
    """How often somebody asked to "save" or to "evaluate" at once."""
    archived = models.DateTimeField(null=True)
    """Since when lists leave it out."""

    created = models.DateTimeField(auto_now_add=True, db_index=True)
    started = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["state", "-priority", "created"])]

    def __str__(self) -> str:
        return f"{self.name} ({self.id})"


class Attempt(models.Model):
    """One process start of a run on a node. Its number is the fence: a higher one ends the lower."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    node = models.ForeignKey(Node, null=True, on_delete=models.SET_NULL, related_name="attempts")
    slots = models.PositiveIntegerField(default=1)
    """Slots of its node that it holds."""
    gpus = ArrayField(models.IntegerField(), default=list, blank=True)
    """Indices of the GPUs that it was given there."""
    lease_digest = models.CharField(max_length=64, default="")
    """SHA-256 of the lease token, by which `ship` speaks for this attempt; "" until claimed."""
    lease_expires = models.DateTimeField(null=True)
    dispatched = models.DateTimeField(auto_now_add=True)
    sent = models.DateTimeField(null=True)
    """When the newest message to the node was sent; sweep sends again after a while."""
    claimed = models.DateTimeField(null=True)
    ended = models.DateTimeField(null=True)
    cause = models.CharField(max_length=24, default="", blank=True)
    message = models.TextField(default="", blank=True)
    exit_code = models.IntegerField(null=True)
    host = models.JSONField(default=dict)
    """What host reported: pids, last log lines."""
    rendezvous = models.JSONField(default=dict)
    """{address, port} at which its first machine awaits the others; {} before it told, or with one machine."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "number"], name="attempt_once")]


class IdempotencyKey(models.Model):
    """A key that a client sent with a POST, and what the first such request made."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    request = models.CharField(max_length=64)
    """SHA-256 of method, path and body: the same key with another request is refused."""
    run = models.ForeignKey(Run, null=True, on_delete=models.CASCADE, related_name="+")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "key"], name="idempotency_once")]
