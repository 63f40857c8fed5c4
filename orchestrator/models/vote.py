"""Votes of people, who do not know which model wrote what."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from orchestrator.models.answer import Opinion, Outcome


class Vote(Opinion):
    """What a person said of two answers, in the order in which they were shown."""

    voter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="votes"
    )
    outcome = models.CharField(max_length=8, choices=Outcome)
    gold = models.CharField(max_length=8, choices=Outcome, default="", blank=True)
    """Of a hidden test item: the outcome that is right in this order; else ""."""
    seconds = models.FloatField(default=0.0)
    """From showing the pair to the vote, as the browser told."""
    undone = models.DateTimeField(null=True, blank=True)
    """When the voter took it back; it counts no more, and stays for the record."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["voter", "item", "left", "right", "index"],
                condition=models.Q(undone=None),
                name="vote_once",
            )
        ]
