"""What each person has used lately: unit-seconds of attempts, older ones counted less."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import connection

from orchestrator.planner.line import HALF_LIFE

if TYPE_CHECKING:
    from datetime import datetime

FORGOTTEN = 7 * HALF_LIFE
"""Seconds after which use counts under one percent, and is left out."""

# A gang uses what each of its machines gave it, for as long as the attempt lasts.
# A unit that was held from a to b seconds ago counts for the integral of 2^(-t / HALF_LIFE) between them.
_USED = """
    SELECT r.owner_id, SUM(a.slots * %(half)s / LN(2) * (
        POWER(2, -GREATEST(EXTRACT(EPOCH FROM %(now)s - COALESCE(a.ended, %(now)s)), 0) / %(half)s)
        - POWER(2, -GREATEST(EXTRACT(EPOCH FROM %(now)s - a.claimed), 0) / %(half)s)))
    FROM (SELECT run_id, number, slots, claimed, ended FROM orchestrator_attempt
          UNION ALL
          SELECT b.run_id, b.number, m.slots, b.claimed, b.ended
          FROM orchestrator_member m JOIN orchestrator_attempt b ON b.id = m.attempt_id) a
    JOIN orchestrator_run r ON r.id = a.run_id
    WHERE a.claimed IS NOT NULL
      AND CASE WHEN a.ended IS NULL
          THEN a.number = r.attempt AND r.process IN ('claimed', 'alive')
          ELSE a.ended > %(now)s - make_interval(secs => %(forgotten)s) END
    GROUP BY r.owner_id
"""


def unit_seconds(now: datetime) -> dict[int, float]:
    """Decayed unit-seconds by owner id."""
    words = {"now": now, "half": HALF_LIFE, "forgotten": FORGOTTEN}
    with connection.cursor() as cursor:
        cursor.execute(_USED, words)
        return {owner: max(0.0, float(used)) for owner, used in cursor.fetchall()}
