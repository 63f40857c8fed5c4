"""Saved weights."""

from __future__ import annotations

from django.db import models

from orchestrator.models.ids import new_id
from orchestrator.models.run import Run


class Checkpoint(models.Model):
    """A checkpoint in the directory of its run."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="checkpoints")
    attempt = models.PositiveIntegerField()
    step = models.BigIntegerField()
    path = models.CharField(max_length=500)
    """Relative to the run's directory."""
    bytes = models.BigIntegerField(default=0)
    sha256 = models.CharField(max_length=64)
    """Of manifest.json, which holds the hash of every file."""
    metrics = models.JSONField(default=dict)
    final = models.BooleanField(default=False)
    created = models.DateTimeField(auto_now_add=True)
    deleted = models.DateTimeField(null=True)
    """When the trainer's keep policy removed the files from the disk where they were saved."""
    stored = models.CharField(max_length=64, default="", blank=True)
    """SHA-256 of the manifest of the server's own copy, "" without one. A copy counts while it equals `sha256`:
    a step that a later attempt saves again is another checkpoint."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "step"], name="checkpoint_once")]
