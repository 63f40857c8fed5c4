"""What people say of a model that is kept: tags, a pin, a stage, a note."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

TAGS_MOST = 32
TAG_LENGTH = 64
NOTE_LENGTH = 20_000


class Stage(models.TextChoices):
    """How far people have come with a model."""

    NONE = "", "none"
    CANDIDATE = "candidate", "candidate"
    APPROVED = "approved", "approved"
    RETIRED = "retired", "retired"


PROTECTED = Q(pinned=True) | Q(stage=Stage.APPROVED)
"""What no retention removes and nobody deletes."""


class Registered(models.Model):
    """A model that people sort, keep and approve."""

    tags = ArrayField(models.CharField(max_length=TAG_LENGTH), default=list, blank=True)
    pinned = models.BooleanField(default=False)
    """Stays, whatever a keep policy or a retention rule says."""
    stage = models.CharField(max_length=12, choices=Stage, default=Stage.NONE, blank=True)
    stage_by = models.CharField(max_length=150, default="", blank=True)
    """Who gave it its stage."""
    stage_at = models.DateTimeField(null=True)
    note = models.TextField(default="", blank=True)

    class Meta:
        abstract = True

    @property
    def protection(self) -> str:
        """Why it stays: `pinned`, `approved`, or "" for what may be removed."""
        if self.pinned:
            return "pinned"
        return "approved" if self.stage == Stage.APPROVED else ""
