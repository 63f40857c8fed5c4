"""Models that no run here made: a folder on a disk, or a repository of a hub."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from orchestrator.models.ids import new_id
from orchestrator.models.node import Node
from orchestrator.models.registered import Registered


class Source(models.TextChoices):
    """Where an external model is read from."""

    PATH = "path", "folder"
    HUB = "hub", "hub"


class External(Registered):
    """A model that people brought, named in specs as `external:ID`. Its files are only ever read."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=120)
    kind = models.CharField(max_length=8, choices=Source)
    source = models.CharField(max_length=1000)
    """An absolute path, or a hub id such as `NAME/MODEL`."""
    revision = models.CharField(max_length=120, default="", blank=True)
    """Branch, tag or commit of a hub model; "" is its main branch."""
    node = models.ForeignKey(
        Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="externals"
    )
    """On whose disk the folder lies; None is this server's machine, or every one."""
    everywhere = models.BooleanField(default=False)
    """The folder lies on a disk that every node has under the same path."""
    sha256 = models.CharField(max_length=64, default="", blank=True)
    """Of manifest.json where the folder has one, else of config.json; "" where nobody here has read it."""
    bytes = models.BigIntegerField(null=True)
    facts = models.JSONField(default=dict)
    """What its files say: see `services.external_look`. {} where nobody here has read them."""
    read = models.DateTimeField(null=True)
    """When this server read the folder last."""
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="externals"
    )
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = "external model"

    def __str__(self) -> str:
        return self.name
