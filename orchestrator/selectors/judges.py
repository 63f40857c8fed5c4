"""Judge models of a comparison: which pairs of answers each was asked about, and what it said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models.functions import MD5

from orchestrator.evidence import Duel
from orchestrator.models import Answer, ArmRun, Judgement, Outcome
from orchestrator.selectors.comparison_state import RunFact
from orchestrator.selectors.comparisons import arms_of, samples_of, sampling_key
from trainer.answering import judge_digest

if TYPE_CHECKING:
    from orchestrator.models import Arm, Comparison

PURPOSE = "judge"
NOTHING = (-1, "an answer is missing", "")
"""Key, problem and hash of an answer that is not there."""

Time = tuple[bool, int]
"""The candidate was shown first, and which time it was asked in this order."""


@dataclass(frozen=True)
class Judge:
    """One judge of a comparison, as it stands in `Comparison.judges`."""

    digest: str
    """Its judgements are found by it (`trainer.answering.judge_digest`)."""
    knobs: dict[str, Any]
    """`evaluation.judge` of a RunSpec."""
    pairs: tuple[tuple[str, str], ...]
    """Names of arms it compares, the one that comes first in the comparison as the baseline."""
    begun: str = ""
    """When it was first set to work (ISO time); "" while it waits for answers."""
    problem: str = ""
    """Why it could not be set to work."""

    @property
    def swap(self) -> bool:
        """Whether each pair is shown both ways round."""
        return bool(self.knobs["swap"])

    @property
    def repeats(self) -> int:
        """How often each order is asked."""
        return int(self.knobs["repeats"])

    @property
    def times(self) -> tuple[Time, ...]:
        """All that is asked of one pair."""
        orders = (False, True) if self.swap else (False,)
        return tuple((first, repeat) for first in orders for repeat in range(self.repeats))

    def plain(self) -> dict[str, Any]:
        """As it is stored."""
        pairs = [list(pair) for pair in self.pairs]
        words = {"digest": self.digest, "knobs": self.knobs, "pairs": pairs}
        return {**words, "begun": self.begun, "problem": self.problem}


@dataclass(frozen=True)
class Asked:
    """Two answers to one prompt that a judge is to compare, and what it has said of them."""

    item: int
    number: int
    digest: str
    """Of the prompt's row."""
    index: int
    baseline: str
    candidate: str
    answers: tuple[int, int]
    """Primary keys, the baseline's first; -1 where there is none."""
    identical: bool = False
    unanswered: str = ""
    """Why there are no two answers."""
    said: dict[Time, tuple[str, str]] = field(default_factory=dict)
    """Outcome without sides, or "" and the problem."""

    @property
    def asks(self) -> bool:
        """Whether there is anything to say of it."""
        return not (self.identical or self.unanswered)

    def missing(self, judge: Judge) -> list[Time]:
        """What the judge was not asked yet."""
        return [time for time in judge.times if time not in self.said] if self.asks else []

    def duel(self, judge: Judge, lengths: tuple[float, float]) -> Duel:
        """As evidence reads it, with what this judge is asked now alone."""
        said: dict[Time, Any] = {t: self.said[t][0] for t in judge.times if t in self.said}
        problems = (self.said[t][1] for t in judge.times if t in self.said)
        fault = self.unanswered or next((reason_of(one) for one in problems if one), "")
        return Duel(
            prompt=str(self.number),
            sample=self.index,
            candidate=self.candidate,
            baseline=self.baseline,
            said=said,
            lengths=lengths,
            identical=self.identical,
            fault=fault,
        )


def judges_of(comparison: Comparison) -> list[Judge]:
    """Its judges in the order in which they were asked."""
    return [
        Judge(**{**row, "pairs": tuple((one, other) for one, other in row["pairs"])})
        for row in comparison.judges
    ]


def judge_named(comparison: Comparison, digest: str) -> Judge | None:
    """The judge with this digest."""
    return next((judge for judge in judges_of(comparison) if judge.digest == digest), None)


def reason_of(problem: str) -> str:
    """What many problems have in common: a problem without what the judge itself had said."""
    return problem.partition(": ")[0]


def judge_runs(comparison: Comparison) -> dict[str, list[RunFact]]:
    """Digest of a judge -> the runs that asked it, the newest first."""
    found: dict[str, list[RunFact]] = {}
    ties = ArmRun.objects.filter(arm__comparison=comparison, purpose=PURPOSE).order_by("-pk")
    rows = ties.values_list("run__spec__evaluation__judge", "run_id", "run__state", "run__reason")
    for knobs, *fact in rows:
        try:
            digest = judge_digest(knobs)
        except ValueError:
            # Knobs of an older version, which no judge of today has.
            continue
        found.setdefault(digest, []).append(RunFact(*fact))
    return found


def asked_of(comparison: Comparison, judge: Judge) -> list[Asked]:
    """Every pair of answers that the judge compares, in the order of the prompts' digests."""
    arms = {arm.name: arm for arm in arms_of(comparison)}
    answers = _answers(comparison, judge, arms)
    said = _said(comparison, judge, arms)
    items = comparison.items.order_by("digest").values_list("pk", "number", "digest")
    samples = samples_of(comparison)
    found = []
    for pk, number, digest in items:
        for baseline, candidate in judge.pairs:
            for index in range(samples):
                one, other = (
                    answers.get((arms[name].digest, digest, index), NOTHING)
                    for name in (baseline, candidate)
                )
                unanswered = one[1] or other[1]
                found.append(
                    Asked(
                        item=pk,
                        number=number,
                        digest=digest,
                        index=index,
                        baseline=baseline,
                        candidate=candidate,
                        answers=(one[0], other[0]),
                        identical=not unanswered and one[2] == other[2],
                        unanswered=unanswered,
                        said=said.get((pk, index, baseline, candidate), {}),
                    )
                )
    return found


def _answers(
    comparison: Comparison, judge: Judge, arms: dict[str, Arm]
) -> dict[tuple[str, str, int], tuple[int, str, str]]:
    """(model, item, index) -> key, problem and hash of the text."""
    names = {name for pair in judge.pairs for name in pair}
    rows = Answer.objects.filter(
        model__in=[arms[name].digest for name in names if arms[name].digest],
        sampling=sampling_key(comparison),
        index__lt=samples_of(comparison),
        item__in=comparison.items.values("digest"),
    ).values_list("model", "item", "index", "pk", "problem", MD5("text"))
    return {
        (model, item, index): (pk, problem, text)
        for model, item, index, pk, problem, text in rows.iterator()
    }


def _said(
    comparison: Comparison, judge: Judge, arms: dict[str, Arm]
) -> dict[tuple[int, int, str, str], dict[Time, tuple[str, str]]]:
    names = {arm.pk: name for name, arm in arms.items()}
    pairs = set(judge.pairs)
    found: dict[tuple[int, int, str, str], dict[Time, tuple[str, str]]] = {}
    rows = Judgement.objects.filter(comparison=comparison, judge=judge.digest).values_list(
        "item_id", "index", "left_id", "right_id", "repeat", "outcome", "problem"
    )
    for item, index, left, right, repeat, outcome, problem in rows.iterator():
        one, other = names[left], names[right]
        first = (other, one) in pairs
        key = (item, index, *((other, one) if first else (one, other)))
        told = _sideless(outcome, first)
        found.setdefault(key, {})[first, repeat] = (told, problem)
    return found


def _sideless(outcome: str, candidate_first: bool) -> str:
    if outcome in (Outcome.LEFT, Outcome.RIGHT):
        return "candidate" if (outcome == Outcome.LEFT) == candidate_first else "baseline"
    return {Outcome.TIE: "tie", Outcome.BOTH_BAD: "both bad"}.get(outcome, "")
