"""Where the values of metrics lie: chunks as they came, packed into blocks by the control worker.

Measured against long rows and partitions in `tests/bench/layouts.py`; ARCHITECTURE.md says why.
"""

from __future__ import annotations

from django.db import models

from orchestrator.models.run import Run


class Series(models.Model):
    """A metric of a run: gives points a small key."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="series")
    key = models.CharField(max_length=200)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "key"], name="series_once")]


class Chunk(models.Model):
    """The metrics lines of one push, written inside the cursor's transaction; waits to be packed."""

    pk = models.CompositePrimaryKey("run", "attempt", "first")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    attempt = models.IntegerField()
    first = models.BigIntegerField()
    """seq of the first metrics line."""
    last = models.BigIntegerField()
    lines = models.IntegerField()
    points = models.IntegerField()
    data = models.BinaryField()
    """`orchestrator.blocks.chunk_pack`."""


class Block(models.Model):
    """Up to 8,192 points of a series and attempt in the order of their journal.

    A step that a resumed attempt logs again supersedes the older point; both stay.
    """

    pk = models.CompositePrimaryKey("series", "attempt", "start")
    series = models.ForeignKey(Series, on_delete=models.CASCADE, related_name="+", db_index=False)
    attempt = models.IntegerField()
    start = models.BigIntegerField()
    """How many points of the series and attempt lie in blocks before this one."""
    count = models.IntegerField()
    first = models.BigIntegerField()
    """seq of the first point's line."""
    last = models.BigIntegerField()
    step_low = models.BigIntegerField()
    step_high = models.BigIntegerField()
    rising = models.BooleanField()
    """Whether every step is above the one before."""
    time_low = models.FloatField()
    """Unix seconds, by the node's clock."""
    time_high = models.FloatField()
    missing = models.IntegerField()
    """How many values are NaN."""
    picks = models.BinaryField()
    seqs = models.BinaryField()
    steps = models.BinaryField()
    times = models.BinaryField()
    values = models.BinaryField()
