"""Who changed what people say of a model, and when."""

from __future__ import annotations

from django.db import models


class RegistryChange(models.Model):
    """One change of a checkpoint or an external model. It stays when its subject is gone."""

    subject = models.CharField(max_length=24, db_index=True)
    """`checkpoint:ID` or `external:ID`."""
    title = models.CharField(max_length=200)
    """What the subject was called then."""
    what = models.CharField(max_length=16)
    """`stage`, `pinned`, `tags`, `note`, `name`, `registered`, `read` or `deleted`."""
    old = models.JSONField(null=True)
    new = models.JSONField(null=True)
    by = models.CharField(max_length=150)
    at = models.DateTimeField(auto_now_add=True, db_index=True)
    why = models.CharField(max_length=300, default="", blank=True)
    """The rule or the event behind it; "" where a person just did it."""

    def __str__(self) -> str:
        return f"{self.title}: {self.what}"
