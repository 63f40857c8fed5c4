"""What people asked a playground, and what its models said."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from orchestrator.models.run import Run


class Question(models.Model):
    """One prompt for the models of a run of kind "play"."""

    id = models.BigAutoField(primary_key=True)
    """By which the trainer names it in its journal."""
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="questions")
    by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="questions"
    )
    body = models.JSONField()
    """Fields of `trainer.play.Question`, defaults filled in."""
    expected = models.PositiveSmallIntegerField()
    """Answers that it gets."""
    answered = models.DateTimeField(null=True, blank=True)
    """When the last one of them was stored."""
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [models.Index(fields=["run", "id"], name="question_of_run")]

    def __str__(self) -> str:
        return f"question {self.pk}"


class Played(models.Model):
    """An answer of one voice."""

    id = models.BigAutoField(primary_key=True)
    question = models.ForeignKey(Question, on_delete=models.CASCADE, related_name="answers")
    voice = models.CharField(max_length=8)
    """`a`, `b`, `base` or `blend`."""
    index = models.PositiveSmallIntegerField()
    text = models.TextField(blank=True)
    token_ids = models.JSONField(default=list)
    pieces = models.JSONField(default=list)
    """The text that each token adds."""
    logps = models.JSONField(default=list)
    """Of each token, under what it was drawn from."""
    readings = models.JSONField(default=dict)
    """`a` and `b` -> the log-probability of each token under that model, at a temperature of 1."""
    finish_reason = models.CharField(max_length=8, blank=True)
    problem = models.CharField(max_length=500, blank=True)
    """Why this voice could not say anything; "" where it did."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["question", "voice", "index"], name="played_once")
        ]

    def __str__(self) -> str:
        return f"{self.voice} {self.index} of question {self.question_id}"
