"""Ballots: which pair a voter is looking at. It is kept here so that no page has to know who wrote what."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from orchestrator.models.answer import Opinion, Outcome
from orchestrator.models.comparison import Arm, Comparison, Item
from orchestrator.models.ids import new_id


class Ballot(Opinion):
    """A pair that was given to a voter, in the order in which it is shown."""

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    """Random: what stands on the page may tell nothing of the pair."""
    voter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="ballots"
    )
    gold = models.CharField(max_length=8, choices=Outcome, default="", blank=True)
    """Of a hidden test item: the outcome that is right in this order; else ""."""
    closed = models.DateTimeField(null=True, blank=True)
    """When it was voted on, or given up for its age."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "voter"],
                condition=models.Q(closed=None),
                name="ballot_open_once",
            )
        ]


class GoldMark(models.Model):
    """A pair whose better answer an admin vouches for: it tests voters and rates no model."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="gold_marks")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="gold_marks")
    better = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="gold_marks_better")
    worse = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="gold_marks_worse")
    index = models.PositiveIntegerField(default=0)
    """Number of the sample, the same on both sides."""
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="gold_marks"
    )
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "better", "worse", "index"], name="gold_mark_once"
            )
        ]

    def __str__(self) -> str:
        return f"prompt {self.item.number} of {self.comparison}"
