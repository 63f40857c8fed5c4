"""Take over what a judge has said of the same answers in another comparison: nothing is judged twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.models import Comparison, Judgement
from orchestrator.selectors.comparisons import arms_of, sampling_key
from orchestrator.selectors.judges import asked_of

if TYPE_CHECKING:
    from orchestrator.selectors.judges import Judge

BATCH = 500
FIELDS = ("index", "repeat", "outcome", "said")


def judgements_reuse(comparison: Comparison, judge: Judge) -> int:
    """Copy the verdicts of the judge on answers of the same models, prompts, sampling and sample; how many.

    What failed elsewhere is not taken over: here it is asked anew.
    """
    arms = arms_of(comparison)
    places = {arm.pk: arm for arm in arms if arm.digest}
    missing = [one for one in asked_of(comparison, judge) if one.missing(judge)]
    if not missing:
        return 0
    wanted = {(one.digest, one.index, frozenset((one.baseline, one.candidate))) for one in missing}
    items = {one.digest: one.item for one in missing}
    digests = {arm.digest for arm in places.values()}
    found = (
        Judgement.objects.filter(
            judge=judge.digest,
            item__digest__in=items,
            left__digest__in=digests,
            right__digest__in=digests,
        )
        .exclude(outcome="")
        .exclude(comparison=comparison)
        .select_related("item", "left", "right")
        .order_by("pk")
    )
    others = Comparison.objects.filter(pk__in=found.order_by().values("comparison"))
    same = [one.pk for one in others if sampling_key(one) == sampling_key(comparison)]
    by_digest: dict[str, list[int]] = {}
    for pk, arm in places.items():
        by_digest.setdefault(arm.digest, []).append(pk)
    rows = [
        Judgement(
            comparison=comparison,
            item_id=items[row.item.digest],
            left_id=left,
            right_id=right,
            judge=judge.digest,
            **{name: getattr(row, name) for name in FIELDS},
        )
        for row in found.filter(comparison__in=same).iterator(chunk_size=2000)
        for left in by_digest[row.left.digest]
        for right in by_digest[row.right.digest]
        if (row.item.digest, row.index, frozenset((places[left].name, places[right].name)))
        in wanted
    ]
    Judgement.objects.bulk_create(rows, ignore_conflicts=True, batch_size=BATCH)
    return len(rows)
