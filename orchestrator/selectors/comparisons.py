"""Comparisons as people ask for them, and by which digests their answers and scores are found."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Prefetch, Q

from orchestrator.models import Arm, Comparison
from orchestrator.selectors.comparison_state import Progress, progress_of
from trainer import registry
from trainer.answering import sampling_digest, scorer_digests

DIGEST = "digest"
"""Beside the knobs of a scorer: by what its scores are found."""


def comparison_get(comparison_id: str) -> Comparison | None:
    """One comparison with its owner and its arms, the baseline first."""
    return _with_arms().filter(pk=comparison_id).first()


def comparisons_list(
    *, q: str = "", checkpoint: str = "", page: int = 1, per_page: int = 50
) -> tuple[list[Comparison], int]:
    """One page of comparisons, newest first, and how many match.

    Words of `q` find names, owners, arms and ids; `checkpoint` those that have it as an arm.
    """
    found = Comparison.objects.all()
    if checkpoint:
        found = found.filter(arms__checkpoint=checkpoint)
    for word in q.replace("\x00", "").split():
        arms = Arm.objects.filter(name__icontains=word).values("comparison")
        ids = Q(pk=word.lower()) | Q(pk__in=arms)
        found = found.filter(ids | Q(name__icontains=word) | Q(owner__username__iexact=word))
    count, start = found.count(), (page - 1) * per_page
    keys = list(
        found.order_by("-created", "pk").values_list("pk", flat=True)[start : start + per_page]
    )
    by_key = {one.pk: one for one in _with_arms().filter(pk__in=keys)}
    return [by_key[key] for key in keys], count


def arms_of(comparison: Comparison) -> list[Arm]:
    """Its arms by position; from memory where they were fetched with it."""
    return sorted(comparison.arms.all(), key=lambda arm: arm.position)


def scorer_label(knobs: dict[str, Any]) -> str:
    """What a scorer is called in tables."""
    return str(knobs.get("name") or knobs["type"])


def scorers_of(comparison: Comparison) -> dict[str, str]:
    """Label of each scorer -> the digest of its scores, the one that decides first."""
    return {scorer_label(knobs): scorer_key(knobs) for knobs in comparison.scorers}


def scorer_key(knobs: dict[str, Any]) -> str:
    """By which digest the scores of one scorer are found: as it was noted, or with the code that is here."""
    return str(knobs.get(DIGEST) or scorer_digests([knobs])[scorer_label(knobs)])


def scorers_better(comparison: Comparison) -> dict[str, str]:
    """Label of each scorer -> whether "higher" or "lower" is better, "" where neither is or nobody knows."""
    methods = registry.family("rewards")
    return {
        scorer_label(knobs): str(getattr(methods.get(knobs["type"]), "better", "higher"))
        for knobs in comparison.scorers
    }


def sampling_key(comparison: Comparison) -> str:
    """By which digest the answers are found."""
    return sampling_digest(comparison.sampling, comparison.seed)


def samples_of(comparison: Comparison) -> int:
    """How many answers each prompt gets."""
    return int(comparison.sampling.get("samples") or 1)


def parts_of(comparison: Comparison) -> list[str]:
    """Names of the sources that its prompts come from."""
    parts = comparison.items.exclude(part="").order_by("part")
    return list(parts.values_list("part", flat=True).distinct())


def comparison_shape(comparison: Comparison, progress: Progress | None = None) -> dict[str, Any]:
    """A comparison as JSON, without its items."""
    progress = progress or comparison_progress(comparison)
    arms = arms_of(comparison)
    return {
        "id": comparison.pk,
        "name": comparison.name,
        "owner": comparison.owner.get_username(),
        "note": comparison.note,
        "created": comparison.created,
        "stopped": comparison.stopped,
        "imported": comparison.imported,
        "state": progress.state,
        "reason": progress.reason,
        "items": progress.items,
        "answers": {
            "wanted": progress.wanted,
            "there": progress.there,
            "failed": progress.failed,
        },
        "prompts": comparison.prompts,
        "sampling": comparison.sampling,
        "scorers": [
            {
                "label": scorer_label(knobs),
                "digest": knobs.get(DIGEST, ""),
                "knobs": {key: value for key, value in knobs.items() if key != DIGEST},
            }
            for knobs in comparison.scorers
        ],
        "seed": comparison.seed,
        "promotion": comparison.promotion,
        "arms": [_arm_shape(arm, progress) for arm in arms],
    }


def comparison_progress(comparison: Comparison) -> Progress:
    """How far it has come."""
    return progress_of(
        comparison,
        arms=arms_of(comparison),
        sampling=sampling_key(comparison),
        samples=samples_of(comparison),
        scorers=list(scorers_of(comparison).values()),
    )


def _arm_shape(arm: Arm, progress: Progress) -> dict[str, Any]:
    counts = progress.arms[arm.pk]
    return {
        "name": arm.name,
        "position": arm.position,
        "model": arm.model,
        "checkpoint": arm.checkpoint_id,
        "digest": arm.digest,
        "train_seed": arm.train_seed,
        "recipe": arm.recipe,
        "facts": arm.facts,
        "answers": {"wanted": counts.wanted, "there": counts.there, "failed": counts.failed},
        "runs": list(counts.runs),
    }


def _with_arms() -> Any:
    arms = Arm.objects.select_related("checkpoint", "checkpoint__run").order_by("position")
    counted = Comparison.objects.annotate(item_count=Count("items", distinct=True))
    return counted.select_related("owner").prefetch_related(Prefetch("arms", queryset=arms))
