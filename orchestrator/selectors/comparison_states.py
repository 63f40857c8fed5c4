"""How far many comparisons have come, by three queries for all of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.db import connection
from django.db.models import Count

from orchestrator.models import Arm, Item
from orchestrator.selectors.comparison_state import Progress, progress_joined, run_facts
from orchestrator.selectors.comparisons import samples_of, sampling_key, scorers_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Comparison

COUNTS = """
WITH asked AS MATERIALIZED (
    SELECT comparison, sampling, samples, ARRAY(SELECT jsonb_array_elements_text(digests)) AS digests
    FROM jsonb_to_recordset(%s::jsonb)
      AS one (comparison text, sampling text, samples int, digests jsonb)
)
SELECT arm.id,
       count(*) FILTER (WHERE answer.problem = '' AND score.broken = 0
                          AND score.good = cardinality(asked.digests)),
       count(*) FILTER (WHERE answer.problem <> '' OR score.broken > 0)
FROM asked
JOIN orchestrator_arm arm ON arm.comparison_id = asked.comparison
JOIN orchestrator_item item ON item.comparison_id = arm.comparison_id
JOIN orchestrator_answer answer
  ON answer.model = arm.digest AND answer.item = item.digest
 AND answer.sampling = asked.sampling AND answer.index < asked.samples
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE value IS NOT NULL) AS good,
           count(*) FILTER (WHERE value IS NULL) AS broken
    FROM orchestrator_score WHERE answer_id = answer.id AND scorer = ANY(asked.digests)
) score
WHERE arm.digest <> ''
GROUP BY arm.id
"""
"""As `comparison_state.COUNTS`, of all arms of several comparisons at once."""


def progress_many(comparisons: Sequence[Comparison]) -> dict[str, Progress]:
    """Id -> how far it has come. Their arms are read from memory where they were fetched with them."""
    arms = {one.pk: sorted(one.arms.all(), key=lambda arm: arm.position) for one in comparisons}
    counted = _counted(comparisons)
    items = dict(
        Item.objects.filter(comparison__in=list(arms))
        .order_by()
        .values_list("comparison")
        .annotate(count=Count("pk"))
    )
    everyone: list[Arm] = [arm for some in arms.values() for arm in some]
    runs = run_facts(everyone)
    return {
        one.pk: progress_joined(
            one, arms[one.pk], items.get(one.pk, 0), samples_of(one), counted, runs
        )
        for one in comparisons
    }


def _counted(comparisons: Sequence[Comparison]) -> dict[int, tuple[int, int]]:
    asked = [
        {
            "comparison": one.pk,
            "sampling": sampling_key(one),
            "samples": samples_of(one),
            "digests": sorted(set(scorers_of(one).values())),
        }
        for one in comparisons
    ]
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, [json.dumps(asked)])
        return {arm: (there, failed) for arm, there, failed in cursor.fetchall()}
