"""The further machines of an attempt on several. The first one is the attempt's own node."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.node import Node
from orchestrator.models.run import Attempt


class Member(models.Model):
    """What an attempt holds of one machine beside its first; all are held and given back together."""

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="members")
    node = models.ForeignKey(Node, null=True, on_delete=models.SET_NULL, related_name="members")
    index = models.PositiveIntegerField()
    """From 1; the ranks of a machine are numbered by it."""
    slots = models.PositiveIntegerField(default=1)
    """Slots of its node that it holds."""
    gpus = ArrayField(models.IntegerField(), default=list, blank=True)
    """Indices of the GPUs that it was given there."""
    lease_digest = models.CharField(max_length=64, default="")
    """SHA-256 of the token by which it asks where the first machine awaits it; "" until claimed."""
    claimed = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True)
    """When its node vouched for it last."""
    ended = models.DateTimeField(null=True)
    cause = models.CharField(max_length=24, default="", blank=True)
    """Why the server gave the attempt up for this member's sake; "" where it did not."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["attempt", "index"], name="member_once")]
