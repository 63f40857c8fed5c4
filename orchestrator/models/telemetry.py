"""What runs report: streams and their cursors, samples, events, log lines. Points have a file of their own."""

from __future__ import annotations

from django.db import models

from orchestrator.models.run import Run
from trainer.spans import LABEL_LENGTH


class Stream(models.Model):
    """One writer's journal and how far it is stored. A push applies iff its first seq is cursor + 1."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="streams")
    attempt = models.PositiveIntegerField()
    source = models.CharField(max_length=16)
    cursor = models.BigIntegerField(default=0)
    """seq of the last stored line."""
    received = models.DateTimeField(null=True)
    packed = models.BigIntegerField(default=0)
    """Of the trainer's journal: seq up to which the points lie in blocks."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "source"], name="stream_once")
        ]


class Sample(models.Model):
    """One sampled answer of training."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="samples")
    attempt = models.PositiveIntegerField()
    seq = models.BigIntegerField()
    step = models.BigIntegerField()
    prompt_id = models.CharField(max_length=64)
    group = models.BigIntegerField()
    prompt = models.TextField()
    completion = models.TextField()
    finish_reason = models.CharField(max_length=16, default="")
    reward = models.FloatField(null=True)
    rewards = models.JSONField(default=dict)
    advantage = models.FloatField(null=True)
    policy_version = models.BigIntegerField(null=True)
    """Optimizer steps behind the weights that drew its oldest token; null where nobody told."""
    tokens = models.JSONField(default=dict)
    """token_ids and logps."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "seq"], name="sample_once")
        ]
        indexes = [models.Index(fields=["run", "-step", "group"])]


class Event(models.Model):
    """A status, checkpoint or alert line of a journal, or something that the server did to the run."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="events")
    attempt = models.PositiveIntegerField(default=0)
    source = models.CharField(max_length=16)
    """trainer, host, or server."""
    seq = models.BigIntegerField(default=0)
    time = models.DateTimeField()
    type = models.CharField(max_length=16)
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["run", "id"])]


class LogLine(models.Model):
    """One line that a trainer printed."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_lines")
    attempt = models.PositiveIntegerField()
    source = models.CharField(max_length=16, default="trainer")
    """trainer or host: each numbers its own lines."""
    seq = models.BigIntegerField()
    number = models.PositiveIntegerField(default=0)
    """Place within the event of that seq."""
    time = models.FloatField()
    text = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["run", "attempt", "source", "seq", "number"], name="log_line_once"
            )
        ]
        indexes = [models.Index(fields=["run", "id"])]


class StepSpans(models.Model):
    """What one process did in one step, phase by phase: a `spans` line of a journal."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="spans")
    attempt = models.PositiveIntegerField()
    seq = models.BigIntegerField()
    process = models.CharField(max_length=LABEL_LENGTH)
    step = models.BigIntegerField()
    steps = models.BigIntegerField(default=1)
    """How many steps it stands for; 0 for what came behind the last one."""
    start = models.FloatField()
    """Unix seconds, by the node's clock."""
    spans = models.JSONField()
    """[phase, from, to] each, in seconds since `start`."""
    folded = models.PositiveIntegerField(default=0)
    """How many spans were added up, one span a phase, at the end."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "seq"], name="step_spans_once")
        ]


class Pulse(models.Model):
    """When a part of the server that answers no requests was last seen at work."""

    name = models.CharField(primary_key=True, max_length=64)
    seen = models.DateTimeField()
