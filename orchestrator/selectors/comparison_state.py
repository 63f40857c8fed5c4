"""How far a comparison has come: which answers are there, and what state that makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from django.db import connection

from orchestrator.models import ENDED, ArmRun, Item, State
from orchestrator.selectors.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from orchestrator.models import Arm, Comparison

ComparisonState = Literal["waiting", "running", "ready", "incomplete", "stopped", "failed"]
STATES: tuple[ComparisonState, ...] = (
    "waiting",
    "running",
    "ready",
    "incomplete",
    "stopped",
    "failed",
)
SETTLED = ("ready", "incomplete")
"""States in which nothing is missing any more."""

RESTING = (State.DRAFT, State.QUEUED, State.PAUSED, State.LOST)
"""Of runs that have not ended: nobody works on these now."""

COUNTS = """
SELECT arm.id,
       count(*) FILTER (WHERE answer.problem = '' AND score.broken = 0 AND score.good = %(scorers)s),
       count(*) FILTER (WHERE answer.problem <> '' OR score.broken > 0)
FROM orchestrator_arm arm
JOIN orchestrator_item item ON item.comparison_id = arm.comparison_id
JOIN orchestrator_answer answer
  ON answer.model = arm.digest AND answer.item = item.digest
 AND answer.sampling = %(sampling)s AND answer.index < %(samples)s
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE value IS NOT NULL) AS good,
           count(*) FILTER (WHERE value IS NULL) AS broken
    FROM orchestrator_score WHERE answer_id = answer.id AND scorer = ANY(%(digests)s)
) score
WHERE arm.comparison_id = %(comparison)s AND arm.digest <> ''
GROUP BY arm.id
"""
"""Of each arm: answers with every score, and answers that failed for good."""


@dataclass(frozen=True)
class RunFact:
    """What a run that works for an arm is doing."""

    id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Counts:
    """Answers of one arm."""

    wanted: int
    there: int
    failed: int
    runs: tuple[str, ...]
    """Ids of the runs that worked for it, the newest first."""

    @property
    def missing(self) -> int:
        """Neither there nor failed."""
        return self.wanted - self.there - self.failed


@dataclass(frozen=True)
class Progress:
    """How far a comparison has come."""

    state: ComparisonState
    reason: str
    items: int
    arms: dict[int, Counts]

    @property
    def wanted(self) -> int:
        """Answers that there should be: prompts x samples x arms."""
        return sum(arm.wanted for arm in self.arms.values())

    @property
    def there(self) -> int:
        """Answers that every scorer has scored."""
        return sum(arm.there for arm in self.arms.values())

    @property
    def failed(self) -> int:
        """Answers that will never have a score; never counted as 0."""
        return sum(arm.failed for arm in self.arms.values())

    @property
    def settled(self) -> bool:
        """Whether nothing more will arrive."""
        return self.state in SETTLED


_settled: Remembered[dict[int, tuple[int, int]]] = Remembered(512)
"""Counts of comparisons that lack nothing: what is stored never changes."""


def progress_of(
    comparison: Comparison,
    *,
    arms: Sequence[Arm],
    sampling: str,
    samples: int,
    scorers: Sequence[str],
) -> Progress:
    """The state of a comparison, from its answers and its runs."""
    known = getattr(comparison, "item_count", None)
    items = Item.objects.filter(comparison=comparison).count() if known is None else known
    counted = _counted(comparison, arms, items, sampling, samples, scorers)
    return progress_joined(comparison, arms, items, samples, counted, run_facts(arms))


def run_facts(arms: Iterable[Arm]) -> dict[int, list[RunFact]]:
    """Arm -> the runs that worked for it, the newest first; one query for all arms."""
    runs: dict[int, list[RunFact]] = {arm.pk: [] for arm in arms}
    facts = ArmRun.objects.filter(arm__in=list(runs), purpose="answers").order_by("-pk")
    for arm_id, *fact in facts.values_list("arm_id", "run_id", "run__state", "run__reason"):
        runs[arm_id].append(RunFact(*fact))
    return runs


def progress_joined(
    comparison: Comparison,
    arms: Sequence[Arm],
    items: int,
    samples: int,
    counted: Mapping[int, tuple[int, int]],
    runs: Mapping[int, list[RunFact]],
) -> Progress:
    """What the counts (there, failed) and the runs of each arm come to."""
    found = {
        arm.pk: Counts(
            items * samples, *counted.get(arm.pk, (0, 0)), tuple(one.id for one in runs[arm.pk])
        )
        for arm in arms
    }
    newest = [runs[arm.pk][0] for arm in arms if runs[arm.pk]]
    state, reason = comparison_state(
        missing=sum(counts.missing for counts in found.values()),
        there=sum(counts.there for counts in found.values()),
        failed=sum(counts.failed for counts in found.values()),
        runs=newest,
        stopped=comparison.stopped is not None,
    )
    return Progress(state, reason, items, found)


def comparison_state(
    *, missing: int, there: int, failed: int, runs: Sequence[RunFact], stopped: bool
) -> tuple[ComparisonState, str]:
    """The state that these facts make, and why, in a sentence.

    `runs` are the newest run of each arm, in the order of the arms.
    """
    if not missing:
        if not failed:
            return "ready", ""
        state: ComparisonState = "incomplete" if there else "failed"
        return state, f"{failed:,} answers failed for good; they count as missing, never as 0."
    if stopped:
        return "stopped", f"Stopped with {missing:,} answers missing."
    live = [run for run in runs if run.state not in ENDED]
    if any(run.state not in RESTING for run in live):
        return "running", ""
    if live:
        return "waiting", live[0].reason
    reason = next((run.reason for run in runs if run.state == State.FAILED and run.reason), "")
    reason = reason or next((run.reason for run in runs if run.reason), "")
    words = f"{missing:,} answers are missing and nothing works on them. {reason}".strip()
    return ("incomplete" if there else "failed"), words


def _counted(
    comparison: Comparison,
    arms: Sequence[Arm],
    items: int,
    sampling: str,
    samples: int,
    scorers: Sequence[str],
) -> dict[int, tuple[int, int]]:
    digests = tuple((arm.pk, arm.digest) for arm in arms)
    key = (comparison.pk, digests, items, sampling, samples, tuple(scorers))

    def count() -> dict[int, tuple[int, int]]:
        words = {
            "comparison": comparison.pk,
            "sampling": sampling,
            "samples": samples,
            "scorers": len(set(scorers)),
            "digests": list(scorers),
        }
        with connection.cursor() as cursor:
            cursor.execute(COUNTS, words)
            found = {arm: (there, failed) for arm, there, failed in cursor.fetchall()}
        wanted = items * samples
        if len(found) < len(arms) or any(sum(two) < wanted for two in found.values()):
            raise _Unsettled(found)
        return found

    try:
        return _settled.get(key, count)
    except _Unsettled as unsettled:
        return unsettled.found


class _Unsettled(Exception):
    """Counts that will still change, so that nobody keeps them."""

    def __init__(self, found: dict[int, tuple[int, int]]) -> None:
        super().__init__()
        self.found = found
