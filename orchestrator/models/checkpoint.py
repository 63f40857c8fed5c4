"""Saved weights."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.ids import new_id
from orchestrator.models.registered import Registered
from orchestrator.models.run import Run


class Checkpoint(Registered):
    """A checkpoint in the directory of its run."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    step = models.BigIntegerField()
    path = models.CharField(max_length=500)
    """Relative to the run's directory."""
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64, db_index=True)
    """Of manifest.json, which holds the hash of every file."""
    metrics = models.JSONField(default=dict)
    final = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)
    deleted = models.DateTimeField(null=True)
    """When the trainer's keep policy removed the files from the disk where they were saved, or somebody
    deleted them."""
    deleted_by = models.CharField(max_length=150, default="", blank=True)
    """Who deleted it: then every copy goes. "" where the keep policy did."""
    leaves = ArrayField(models.CharField(max_length=12), default=list, blank=True)
    """Where its files are still to be removed: `server`, and ids of nodes with a disk of their own."""
    freed = models.BigIntegerField(null=True)
    """Bytes that were freed since it was deleted, as the disks counted their blocks."""
    stored = models.CharField(max_length=64, default="", blank=True)
    """SHA-256 of the manifest of the server's own copy, "" without one. A copy counts while it equals `sha256`:
    a step that a later attempt saves again is another checkpoint."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="checkpoint_once")]

    def __str__(self) -> str:
        return f"{self.run.name}, step {self.step}"
