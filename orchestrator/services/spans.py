"""Keep the newest spans of each run: the control worker's work, once a minute."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from orchestrator.models import ENDED, Run, StepSpans
from orchestrator.selectors.plan_lines import KEPT

ENDED_LATELY = timedelta(hours=1)
"""How long after its end a run is looked at: its last lines may come late."""

TABLE = StepSpans._meta.db_table
TRIM = f"""
DELETE FROM "{TABLE}" WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY run_id, process ORDER BY attempt DESC, seq DESC
        ) AS place
        FROM "{TABLE}" WHERE run_id = ANY(%s)
    ) AS placed WHERE place > {KEPT}
)
"""


def spans_trim() -> int:
    """Delete what is behind the newest `KEPT` lines of each process of live runs; how many lines went."""
    lately = Q(ended__gt=timezone.now() - ENDED_LATELY)
    live = Run.objects.filter(~Q(state__in=ENDED) | lately, attempt__gt=0)
    with connection.cursor() as cursor:
        cursor.execute(TRIM, [list(live.values_list("pk", flat=True))])
        return cursor.rowcount
