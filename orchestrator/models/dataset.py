"""Uploaded rows."""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.ids import new_id


class Dataset(models.Model):
    """A file of rows, stored once by its content."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="datasets"
    )
    filename = models.CharField(max_length=200)
    """As uploaded; its ending says the format."""
    sha256 = models.CharField(max_length=64)
    bytes = models.BigIntegerField()
    rows = models.BigIntegerField()
    columns = ArrayField(models.CharField(max_length=200))
    mapping = models.JSONField(default=dict)
    """File's column name -> ours."""
    facts = models.JSONField(default=dict)
    """File's column -> how many rows have it, how many are empty, what they hold, how long they are."""
    preview = models.JSONField(default=list)
    """The first rows, long texts cut."""
    made_for = models.CharField(max_length=24, default="", blank=True)
    """"comparison": rows that a comparison gave its evaluation runs; nobody uploaded them, and lists of what
    people can choose leave them out."""
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "sha256"], name="dataset_content_once")
        ]

    def __str__(self) -> str:
        return self.name
