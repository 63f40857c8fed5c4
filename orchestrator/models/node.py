"""Machines that run trainers."""

from __future__ import annotations

from django.db import models

from orchestrator.models.ids import new_id


class Node(models.Model):
    """A machine with slots. It speaks over HTTP with its token and never opens the database."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=64)
    token_digest = models.CharField(max_length=64, unique=True)
    """SHA-256 of the node token."""
    slots = models.PositiveIntegerField(default=1)
    labels = models.JSONField(default=list)
    """Words that runs may ask for: people's, and those that the node was started with."""
    own_labels = models.JSONField(default=list)
    """The part of `labels` that its command line named at the last join."""
    inventory = models.JSONField(default=dict)
    """cpus, memory, disk, gpus [{index, name, memory, used, utilisation, power, temperature, ...}], driver,
    engines, versions, methods {hash}, gpus_of {run: [index]}."""
    local = models.BooleanField(default=False)
    """Shares this server's data directory."""
    drained = models.BooleanField(default=False)
    """Takes no runs at all: what is on it finishes, then it is empty."""
    cordoned = models.BooleanField(default=False)
    """Takes no new runs; those that worked on it last may come back."""
    joined = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)
    expect_next_in = models.FloatField(default=10)
    """Seconds within which the node promised to speak again."""
    heard_since = models.DateTimeField(null=True)
    """Since when it has kept that promise: silence of its runs counts from here, not from while
    this server itself could not listen."""
    instance = models.CharField(max_length=32, default="", blank=True)
    """The process that joined last under this name; an older one is turned away."""
    closed = models.DateTimeField(null=True)
    """Since when it takes no runs because its machine stops; the next join opens it."""
    revoked = models.DateTimeField(null=True)
    """When its token was taken back."""
    removed = models.DateTimeField(null=True)
    """When it was taken off the list; the row stays for the history of its runs."""

    class Meta:
        constraints = [
            # A removed node gives its name free.
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(removed=None), name="node_name_once"
            )
        ]

    def __str__(self) -> str:
        return self.name


class NodeReading(models.Model):
    """How loaded a node was at one moment; None for what it cannot tell."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="readings")
    time = models.DateTimeField()
    cpu = models.FloatField(null=True)
    """Percent of all processors."""
    memory = models.FloatField(null=True)
    """Percent of RAM in use."""
    gpu = models.FloatField(null=True)
    """Utilisation in percent, the mean of its GPUs."""
    gpu_low = models.FloatField(null=True)
    gpu_high = models.FloatField(null=True)
    """The least and the most utilised GPU: a mean alone would hide one that stands still."""
    gpu_memory = models.FloatField(null=True)
    """Percent of all GPUs' memory in use."""
    power = models.FloatField(null=True)
    """Watts of all GPUs together."""
    temperature = models.FloatField(null=True)
    """Degrees Celsius of the hottest GPU."""

    class Meta:
        indexes = [models.Index(fields=["node", "time"], name="node_reading_time")]
