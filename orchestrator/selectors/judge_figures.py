"""How far the judges of a comparison have come, and what their verdicts say."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from orchestrator import evidence
from orchestrator.models import ENDED, Judgement
from orchestrator.selectors.comparison_sheet import sheet_of
from orchestrator.selectors.comparison_state import RESTING
from orchestrator.selectors.comparisons import comparison_progress
from orchestrator.selectors.judges import asked_of, judge_runs, judges_of, reason_of
from orchestrator.selectors.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.models import Comparison
    from orchestrator.selectors.comparison_sheet import Sheet
    from orchestrator.selectors.comparison_state import ComparisonState, Progress, RunFact
    from orchestrator.selectors.judges import Asked, Judge

EXAMPLES = 5
WAITS = "Waits until the answers are there."
ONE_ORDER = (
    "Each pair was shown in one order, the baseline first: a liking for a place counts as better."
)

_figures: Remembered[dict[str, Any]] = Remembered(32)


@dataclass(frozen=True)
class Count:
    """Pairs of answers before a judge."""

    wanted: int
    """Pairs that it has to be asked about."""
    there: int
    """With a verdict."""
    failed: int
    """Asked, without a verdict: they count as missing, never as a tie or a loss."""
    identical: int
    """Equal answers: ties, and nobody is asked."""
    unanswered: int
    """Without two answers."""

    @property
    def missing(self) -> int:
        """Neither judged nor failed."""
        return self.wanted - self.there - self.failed


def judges_shape(comparison: Comparison, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Every judge with state, counts, figures and reasons of what failed; plain data."""
    judges = judges_of(comparison)
    if not judges:
        return []
    progress = progress or comparison_progress(comparison)
    sheet, runs = sheet_of(comparison, progress), judge_runs(comparison)
    return [
        _shape(comparison, judge, sheet, progress, runs.get(judge.digest, [])) for judge in judges
    ]


def _shape(
    comparison: Comparison, judge: Judge, sheet: Sheet, progress: Progress, runs: Sequence[RunFact]
) -> dict[str, Any]:
    rows = Judgement.objects.filter(comparison=comparison, judge=judge.digest).order_by("-pk")
    newest = rows.values_list("pk", flat=True).first()
    # Judgements are added, and failed ones removed to be asked for again.
    key = (sheet.key, repr(judge), rows.count(), newest)
    figures = _figures.get(key, lambda: _made(comparison, judge, sheet))
    count = Count(**figures["pairs"])
    state, reason = judge_state(count, runs=runs, judge=judge, settled=progress.settled)
    return {
        "digest": judge.digest,
        "url": judge.knobs["url"],
        "model": judge.knobs["model"],
        "swap": judge.swap,
        "repeats": judge.repeats,
        "knobs": judge.knobs,
        "state": state,
        "reason": reason,
        "live": any(run.state not in ENDED for run in runs),
        "runs": [run.id for run in runs],
        **figures,
    }


def judge_state(
    count: Count, *, runs: Sequence[RunFact], judge: Judge, settled: bool
) -> tuple[ComparisonState, str]:
    """The state of one judge, and why, in a sentence; `runs` the newest first."""
    live = [run for run in runs if run.state not in ENDED]
    if any(run.state not in RESTING for run in live):
        return "running", ""
    if live:
        return "waiting", live[0].reason
    if judge.problem:
        return "failed", judge.problem
    if not judge.begun:
        return "waiting", WAITS
    if count.missing:
        state: ComparisonState = "incomplete" if count.there or count.failed else "failed"
        if not runs and not settled:
            return "waiting", WAITS
        told = runs[0].reason if runs else ""
        words = f"{count.missing:,} pairs are not judged and nothing works on them. {told}".strip()
        return state, words
    if count.failed:
        words = f"{count.failed:,} of {count.wanted:,} pairs got no verdict: missing, never a tie."
        return ("incomplete" if count.there else "failed"), words
    if not count.wanted:
        if not count.identical:
            return "failed", "There are no two answers to compare."
        return "ready", "All answers are equal to the letter: there was nothing to ask."
    return "ready", ""


def _made(comparison: Comparison, judge: Judge, sheet: Sheet) -> dict[str, Any]:
    asked = asked_of(comparison, judge)
    lengths = _lengths(sheet)
    duels = [one.duel(judge, lengths(one)) for one in asked]
    order, first = evidence.order_effect(duels)
    found = evidence.duel_findings(duels, swap=judge.swap, repeats=judge.repeats)
    why, examples = _why(asked, judge)
    return {
        "pairs": asdict(_count(asked, duels, judge)),
        "findings": [_finding(one) for one in found],
        "order": _plain(order),
        "first": _plain(first),
        "consistency": _plain(evidence.self_consistency(duels)),
        "caution": "" if judge.swap else ONE_ORDER,
        "why": why,
        "examples": examples,
    }


def _count(asked: Sequence[Asked], duels: Sequence[evidence.Duel], judge: Judge) -> Count:
    there = failed = 0
    for one, duel in zip(asked, duels, strict=True):
        if not one.asks or one.missing(judge):
            continue
        told = duel.value(swap=judge.swap, repeats=judge.repeats) is not None
        there, failed = there + told, failed + (not told)
    return Count(
        wanted=sum(one.asks for one in asked),
        there=there,
        failed=failed,
        identical=sum(one.identical for one in asked),
        unanswered=sum(bool(one.unanswered) for one in asked),
    )


def _why(asked: Sequence[Asked], judge: Judge) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How often each reason came, of all times that it was asked; and the first ones in full."""
    counts: Counter[str] = Counter()
    examples: list[dict[str, Any]] = []
    for one in asked:
        for time in judge.times:
            problem = one.said.get(time, ("", ""))[1]
            if not problem:
                continue
            counts[reason_of(problem)] += 1
            if len(examples) < EXAMPLES:
                examples.append({"number": one.number, "index": one.index, "problem": problem})
    return dict(counts.most_common(8)), examples


def _finding(found: evidence.DuelFinding) -> dict[str, Any]:
    plain = asdict(found)
    finding = plain.pop("finding")
    finding["left_out"]["sentence"] = found.finding.left_out.sentence
    return {**finding, **plain}


def _plain(share: evidence.Share | None) -> dict[str, Any] | None:
    return None if share is None else asdict(share)


def _lengths(sheet: Sheet) -> Any:
    names = {name: at for at, name in enumerate(sheet.names())}
    places = {number: at for at, number in enumerate(sheet.numbers)}

    def lengths(one: Asked) -> tuple[float, float]:
        """Of the candidate's and the baseline's answer."""
        at = places[one.number]
        candidate, baseline = (
            float(sheet.lengths_APK[names[name], at, one.index])
            for name in (one.candidate, one.baseline)
        )
        return candidate, baseline

    return lengths
