"""Machines that run trainers."""

from __future__ import annotations

from django.db import models

from orchestrator.models.ids import new_id


class Node(models.Model):
    """A machine with slots. It speaks over HTTP with its token and never opens the database."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=64, unique=True)
    token_digest = models.CharField(max_length=64, unique=True)
    """SHA-256 of the node token."""
    slots = models.PositiveIntegerField(default=1)
    labels = models.JSONField(default=list)
    inventory = models.JSONField(default=dict)
    """cpus, memory, disk, gpus [{name, memory, used, utilisation, power}], engines, versions, methods {hash}."""
    local = models.BooleanField(default=False)
    """Shares this server's data directory."""
    drained = models.BooleanField(default=False)
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

    def __str__(self) -> str:
        return self.name
