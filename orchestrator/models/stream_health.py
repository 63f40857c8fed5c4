"""How telemetry travels: what was refused of each journal, and what ship says of its spool and its clock."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models

from orchestrator.models.run import Run


class StreamHealth(models.Model):
    """The pushes of one journal by what became of them. Written beside the data, at most once a second.

    The counters are written after the data they count: a web process that is killed forgets those of its
    last second. Cursors and rows never depend on them.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="stream_health")
    attempt = models.PositiveIntegerField()
    source = models.CharField(max_length=16)
    pushes = models.BigIntegerField(default=0)
    """Pushes that continued the stream and were stored."""
    repeated_pushes = models.BigIntegerField(default=0)
    repeated_lines = models.BigIntegerField(default=0)
    """Lines that came again after they were stored, and were not stored again."""
    early_pushes = models.BigIntegerField(default=0)
    early_lines = models.BigIntegerField(default=0)
    """Lines that came before the ones they follow, and were asked for again."""
    refused_pushes = models.BigIntegerField(default=0)
    refused_why = models.CharField(max_length=300, default="")
    """What the newest refusal said."""
    highest = models.BigIntegerField(default=0)
    """The highest seq that any push has shown."""
    lags = ArrayField(models.FloatField(), default=list)
    """Seconds from the time of a push's oldest line (the node's clock) to its storage (the server's), of
    the newest pushes, oldest push first. Not corrected for the difference of the clocks."""

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "attempt", "source"], name="stream_health_once")
        ]


class ShipReport(models.Model):
    """What the ship of one attempt said in its newest beat."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="ship_reports")
    attempt = models.PositiveIntegerField()
    received = models.DateTimeField()
    journals = models.JSONField(default=dict)
    """By source: [complete lines counted, bytes of the file, bytes of it not counted yet]."""
    clock_offset = models.FloatField(null=True)
    """Seconds that the node's clock is ahead of the server's; None while ship has not measured it."""
    clock_within = models.FloatField(null=True)
    """By how many seconds that may be wrong: half of the round trip in which it was measured."""

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "attempt"], name="ship_report_once")]
