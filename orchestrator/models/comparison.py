"""Comparisons: which models answer which prompts, under which conditions."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from orchestrator.models.checkpoint import Checkpoint
from orchestrator.models.ids import new_id
from orchestrator.models.run import Run

ARMS_MOST = 6


class Comparison(models.Model):
    """A question: which of these models answers these prompts better, and how sure is that.

    Its state is no column: it follows from its arms' runs and from which answers are there
    (`selectors.comparison_state`).
    """

    id = models.CharField(primary_key=True, max_length=12, default=new_id)
    name = models.CharField(max_length=120)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="comparisons"
    )
    created = models.DateTimeField(auto_now_add=True)
    note = models.TextField(default="", blank=True)
    imported = models.BooleanField(default=False)
    """Answers and scores came from a file: nothing is generated for it."""
    prompts = models.JSONField(default=list)
    """`data.eval` of a RunSpec: where the prompts came from."""
    sampling = models.JSONField(default=dict)
    """samples (a prompt), temperature, top_p, top_k, min_p, max_new_tokens."""
    scorers = models.JSONField(default=list)
    """`rewards` of a RunSpec, in order; the first one decides unless another is chosen."""
    seed = models.BigIntegerField(default=0)
    """Of sampling: the same for every arm, so that arms share their random numbers."""
    promotion = models.JSONField(default=dict, blank=True)
    """When an arm is approved: better_on, not_worse_on, margin; `decided` once it was (`selectors.promotion`)."""
    judges = models.JSONField(default=list, blank=True)
    """Judge models that were asked which answers are better, and about which arms (`selectors.judges`)."""
    stopped = models.DateTimeField(null=True, blank=True)
    """When somebody ended it: what is missing is not generated any more."""

    def __str__(self) -> str:
        return self.name


class Arm(models.Model):
    """One model of a comparison."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="arms")
    position = models.PositiveSmallIntegerField()
    """0 is the baseline: the others are compared with it."""
    name = models.CharField(max_length=120)
    model = models.CharField(max_length=300, default="", blank=True)
    """As `model.name` of a RunSpec: `checkpoint:ID`, `external:ID`, a folder or a hub id; "" where imported."""
    checkpoint = models.ForeignKey(
        Checkpoint, null=True, blank=True, on_delete=models.SET_NULL, related_name="arms"
    )
    digest = models.CharField(max_length=64, default="", blank=True)
    """SHA-256 of what answers: of the checkpoint's manifest, or of an external model's; "" while unknown.
    Answers are found by it, so equal weights under two names are generated once."""
    train_seed = models.BigIntegerField(null=True, blank=True)
    """Seed of the run that trained it; null where nobody knows."""
    recipe = models.CharField(max_length=64, default="", blank=True)
    """SHA-256 of that run's spec without seed and name: arms that share it are replicates by seed."""
    facts = models.JSONField(default=dict)
    """What is told of it beside its name: step, tokenizer, vocabulary, source."""

    class Meta:
        ordering = ["comparison", "position"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "position"], name="arm_position_once"),
            models.UniqueConstraint(fields=["comparison", "name"], name="arm_name_once"),
        ]

    def __str__(self) -> str:
        return self.name


class ArmRun(models.Model):
    """A run of kind "evaluate" that generates or reads answers for an arm."""

    arm = models.ForeignKey(Arm, on_delete=models.CASCADE, related_name="runs")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="arm_runs")
    purpose = models.CharField(max_length=16, default="answers")
    """answers; readings (log-probabilities of others' answers under this arm); judge."""


class Item(models.Model):
    """One prompt of a comparison."""

    comparison = models.ForeignKey(Comparison, on_delete=models.CASCADE, related_name="items")
    number = models.PositiveIntegerField()
    digest = models.CharField(max_length=64)
    """SHA-256 of the row's sorted compact JSON: the same prompt in two comparisons has one digest."""
    part = models.CharField(max_length=120, default="", blank=True)
    """Name of its source, as in `eval/SOURCE/...`."""
    prompt = models.TextField()
    """As people read it."""
    row = models.JSONField(default=dict)
    """The whole row: prompt, answer and what scorers read."""

    class Meta:
        ordering = ["comparison", "number"]
        constraints = [
            models.UniqueConstraint(fields=["comparison", "number"], name="item_number_once"),
            models.UniqueConstraint(fields=["comparison", "digest"], name="item_digest_once"),
        ]
