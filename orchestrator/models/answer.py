"""Answers of models, by content: whoever asks for the same one again gets the one that is there."""

from __future__ import annotations

from django.db import models

from orchestrator.models.comparison import Arm, Comparison, Item
from orchestrator.models.run import Run


class Answer(models.Model):
    """What one model wrote to one prompt, as its sample number `index`, under one way of sampling."""

    model = models.CharField(max_length=64)
    """Digest of the model (`Arm.digest`)."""
    item = models.CharField(max_length=64)
    """Digest of the prompt's row (`Item.digest`)."""
    sampling = models.CharField(max_length=64)
    """SHA-256 of sampling and seed (`trainer.answering.sampling_digest`); samples a prompt is not part of it."""
    index = models.PositiveIntegerField()
    text = models.TextField()
    token_ids = models.JSONField(default=list)
    logps = models.JSONField(default=list)
    """Log-probability of each token under the distribution that it was drawn from."""
    tokens = models.PositiveIntegerField(default=0)
    finish_reason = models.CharField(max_length=16, default="", blank=True)
    """stop, length, or "" where nobody told."""
    problem = models.CharField(max_length=500, default="", blank=True)
    """Why there is no answer; such a failed item is never a score of 0."""
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="answers")
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["model", "item", "sampling", "index"], name="answer_once"
            )
        ]


class Score(models.Model):
    """What one scorer gave to an answer."""

    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="scores")
    scorer = models.CharField(max_length=64)
    """SHA-256 of the scorer's knobs and code (`trainer.answering.scorer_digest`)."""
    value = models.FloatField(null=True)
    """Null where it could not say."""
    problem = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["answer", "scorer"], name="score_once")]


class Reading(models.Model):
    """Log-probabilities of an answer's tokens under another model that has the same tokens."""

    answer = models.ForeignKey(Answer, on_delete=models.CASCADE, related_name="readings")
    model = models.CharField(max_length=64)
    """Digest of the model that read it."""
    logps = models.JSONField(default=list)
    pieces = models.JSONField(default=list)
    """The text that each token adds; [] where the run that read it did not tell."""
    problem = models.CharField(max_length=500, default="", blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["answer", "model"], name="reading_once")]


class Outcome(models.TextChoices):
    """What was said of a pair of answers."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    BOTH_BAD = "both-bad"


class Opinion(models.Model):
    """What is common to a person's vote and a model's judgement: two answers to one prompt, in an order."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="%(class)ss")
    item = models.ForeignKey(Item, on_delete=models.CASCADE, related_name="%(class)ss")
    left = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="%(class)ss_left")
    right = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="%(class)ss_right")
    index = models.PositiveIntegerField(default=0)
    """Number of the sample, the same on both sides."""
    created = models.DateTimeField(auto_now_add=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"prompt {self.item.number} of {self.comparison}"


class Judgement(Opinion):
    """What a judge model said of two answers, in one order."""

    judge = models.CharField(max_length=64)
    """Digest of the judge's knobs."""
    repeat = models.PositiveSmallIntegerField(default=0)
    outcome = models.CharField(max_length=8, choices=Outcome, default="", blank=True)
    """Empty where there is none: `problem` says why."""
    problem = models.CharField(max_length=500, default="", blank=True)
    said = models.TextField(default="", blank=True)
    """The judge's own words."""

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["judge", "item", "left", "right", "index", "repeat"], name="judgement_once"
            )
        ]
