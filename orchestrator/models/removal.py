"""Deleted runs: what is left to remove on nodes, and what was freed."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.node import Node


class Removal(models.Model):
    """The files of a deleted run on one machine."""

    run_id = models.CharField(max_length=12, db_index=True)
    name = models.CharField(max_length=120)
    by = models.CharField(max_length=150)
    node = models.ForeignKey(Node, null=True, on_delete=models.CASCADE, related_name="removals")
    """Whose disk; None is the server's own."""
    checkpoints = ArrayField(models.CharField(max_length=12), default=list)
    """Ids of its checkpoints: nodes keep fetched copies under them."""
    rows = models.JSONField(default=dict)
    """Rows that were deleted, by table; with the server's own part."""
    asked = models.DateTimeField(auto_now_add=True)
    done = models.DateTimeField(null=True)
    bytes = models.BigIntegerField(null=True)
    """Freed on that disk, as its blocks were counted before the removal."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run_id", "node"], name="removal_once", nulls_distinct=False
            )
        ]
