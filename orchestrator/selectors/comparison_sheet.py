"""Every score of a comparison as arrays: what filters, tables and statistics are made from.

Legend: A arms, P prompts, K samples a prompt.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from django.db.models.functions import Length

from orchestrator import evidence
from orchestrator.models import Answer, Arm, Comparison, Item, Score
from orchestrator.selectors.comparisons import (
    arms_of,
    comparison_progress,
    samples_of,
    sampling_key,
    scorers_better,
    scorers_of,
)
from orchestrator.selectors.remembered import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from orchestrator.selectors.comparison_state import Progress

NOT_YET = "not answered yet"
NOT_SCORED = "not scored yet"

Place = tuple[int, int, int]


@dataclass(frozen=True)
class SheetArm:
    """One arm."""

    id: int
    name: str
    train_seed: int | None
    recipe: str
    """SHA-256 of its recipe and step: arms that share it differ by training seed alone; "" where unknown."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """What is known of all answers of a comparison, without their texts."""

    key: tuple[Any, ...]
    """What went in: sheets with equal keys are equal."""
    arms: tuple[SheetArm, ...]
    items: tuple[int, ...]
    """Primary keys of the items, in order."""
    numbers: tuple[int, ...]
    digests: tuple[str, ...]
    parts: tuple[str, ...]
    answers_APK: NDArray[np.int64]
    """Primary keys of the answers; -1 where there is none."""
    lengths_APK: NDArray[np.float64]
    """Tokens, or characters where no answer of the arm has tokens; NaN where there is no answer."""
    scores: dict[str, NDArray[np.float64]]
    """Label of a scorer -> (A, P, K); NaN where an item failed or is missing."""
    better: dict[str, str]
    """Label of a scorer -> "higher", "lower", or "" where neither is: then more counts as better."""
    faults: dict[str, dict[Place, str]] = field(default_factory=dict)
    """Label of a scorer -> why there is no score."""

    def names(self) -> list[str]:
        """The arms' names, the baseline first."""
        return [arm.name for arm in self.arms]

    def means_AP(self, scorer: str) -> NDArray[np.float64]:
        """Mean over the samples that have a score; NaN where none has."""
        scores_APK = self.scores[scorer]
        counts_AP = (~np.isnan(scores_APK)).sum(axis=2)
        sums_AP = np.nansum(scores_APK, axis=2)
        return np.where(counts_AP, sums_AP / np.maximum(counts_AP, 1), np.nan)

    def sign(self, scorer: str) -> int:
        """-1 where a lower score is better, else 1."""
        return -1 if self.better[scorer] == "lower" else 1

    def gains_AP(self, scorer: str) -> NDArray[np.float64]:
        """The means, turned so that more is better."""
        return self.sign(scorer) * self.means_AP(scorer)

    def binary(self, scorer: str) -> bool:
        """Whether every score is 0 or 1: right or wrong."""
        scores_APK = self.scores[scorer]
        known = scores_APK[~np.isnan(scores_APK)]
        return bool(known.size) and bool(np.isin(known, (0.0, 1.0)).all())

    def evidence_arms(self, scorer: str) -> evidence.Arms:
        """The arms as statistics take them, more being better; prompts in the order of their digests.

        Digests are random with regard to scores, and answers are asked for in this order: looks at the first
        prompts are looks at a drawn sample.
        """
        order = np.argsort(np.array(self.digests))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        faults = self.faults.get(scorer, {})
        per_arm: list[dict[tuple[int, ...], str]] = [{} for _ in self.arms]
        for (arm, prompt, sample), why in faults.items():
            per_arm[arm][int(rank[prompt]), sample] = why
        return evidence.Arms(
            tuple(str(self.numbers[place]) for place in order),
            tuple(
                evidence.Arm(
                    arm.name, self.sign(scorer) * self.scores[scorer][at][order], per_arm[at]
                )
                for at, arm in enumerate(self.arms)
            ),
        )

    def answered(self, scorer: str) -> list[int]:
        """Of each arm, on how many prompts it has a score."""
        return [int(count) for count in (~np.isnan(self.means_AP(scorer))).sum(axis=1)]


_sheets: Remembered[Sheet] = Remembered(8)


def sheet_of(comparison: Comparison, progress: Progress | None = None) -> Sheet:
    """The sheet of a comparison as it is now."""
    progress = progress or comparison_progress(comparison)
    arms = arms_of(comparison)
    scorers = scorers_of(comparison)
    samples, sampling = samples_of(comparison), sampling_key(comparison)
    # Answers and scores are added and never changed: their counts tell one moment from another.
    counts = tuple((arm.pk, arm.name, arm.digest) for arm in arms)
    stored = _stored_count(comparison, [arm.digest for arm in arms], sampling, samples)
    key = (comparison.pk, counts, progress.items, sampling, samples, *scorers.items(), stored)
    return _sheets.get(key, lambda: _read(key, comparison, arms, scorers, sampling, samples))


def scorer_named(comparison: Comparison, label: str) -> str:
    """The scorer with this label, or the one that decides. Raises ValueError for an unknown label."""
    labels = list(scorers_of(comparison))
    if not labels:
        raise ValueError("scorer: this comparison has none, so that there are votes alone")
    if not label:
        return labels[0]
    if label not in labels:
        raise ValueError(f"scorer: there is no '{label[:60]}' here; use {', '.join(labels)}")
    return label


def _stored_count(
    comparison: Comparison, models: Sequence[str], sampling: str, samples: int
) -> tuple[int, int]:
    answers = _answers(comparison, models, sampling, samples)
    return answers.count(), Score.objects.filter(answer__in=answers).count()


def _answers(comparison: Comparison, models: Sequence[str], sampling: str, samples: int) -> Any:
    items = Item.objects.filter(comparison=comparison).values("digest")
    wanted = [model for model in models if model]
    return Answer.objects.filter(
        model__in=wanted, sampling=sampling, index__lt=samples, item__in=items
    )


def _read(
    key: tuple[Any, ...],
    comparison: Comparison,
    arms: Sequence[Arm],
    scorers: dict[str, str],
    sampling: str,
    samples: int,
) -> Sheet:
    items = list(
        Item.objects.filter(comparison=comparison)
        .order_by("number")
        .values_list("pk", "number", "digest", "part")
    )
    shape = (len(arms), len(items), samples)
    answers_APK = np.full(shape, -1, dtype=np.int64)
    lengths_APK, letters_APK = np.full(shape, np.nan), np.full(shape, np.nan)
    at_item = {digest: place for place, (_, _, digest, _) in enumerate(items)}
    at_arm: dict[str, list[int]] = {}
    for place, arm in enumerate(arms):
        at_arm.setdefault(arm.digest, []).append(place)
    broken: dict[Place, str] = {}
    places: dict[int, list[Place]] = {}
    rows = _answers(comparison, list(at_arm), sampling, samples).values_list(
        "pk", "model", "item", "index", "tokens", "problem", Length("text")
    )
    for pk, model, item, index, tokens, problem, letters in rows.iterator(chunk_size=5000):
        for arm_at in at_arm[model]:
            at = (arm_at, at_item[item], index)
            places.setdefault(pk, []).append(at)
            answers_APK[at] = pk
            lengths_APK[at], letters_APK[at] = tokens, letters
            if problem:
                broken[at] = problem
    for arm_at in range(len(arms)):
        if not np.nansum(lengths_APK[arm_at]):
            lengths_APK[arm_at] = letters_APK[arm_at]
    scores, faults = _scores(shape, scorers, places, broken, answers_APK)
    return Sheet(
        key=key,
        arms=tuple(_sheet_arm(arm) for arm in arms),
        items=tuple(pk for pk, *_ in items),
        numbers=tuple(number for _, number, *_ in items),
        digests=tuple(digest for _, _, digest, _ in items),
        parts=tuple(part for *_, part in items),
        answers_APK=answers_APK,
        lengths_APK=lengths_APK,
        scores=scores,
        better=scorers_better(comparison),
        faults=faults,
    )


def _scores(
    shape: tuple[int, int, int],
    scorers: dict[str, str],
    places: dict[int, list[Place]],
    broken: dict[Place, str],
    answers_APK: NDArray[np.int64],
) -> tuple[dict[str, NDArray[np.float64]], dict[str, dict[Place, str]]]:
    scores = {label: np.full(shape, np.nan) for label in scorers}
    faults: dict[str, dict[Place, str]] = {label: {} for label in scorers}
    labels: dict[str, list[str]] = {}
    for label, digest in scorers.items():
        labels.setdefault(digest, []).append(label)
    found = _scores_of(places, list(labels))
    for answer, scorer, value, problem in found:
        for label in labels[scorer]:
            for place in places[answer]:
                if value is None or place in broken:
                    faults[label][place] = broken.get(place) or problem or "no score"
                else:
                    scores[label][place] = value
    for label, whole in scores.items():
        for arm, prompt, sample in np.argwhere(np.isnan(whole)).tolist():
            place = (arm, prompt, sample)
            if place not in faults[label]:
                nothing = NOT_YET if answers_APK[place] < 0 else NOT_SCORED
                faults[label][place] = broken.get(place, nothing)
    return scores, faults


def _scores_of(answers: Iterable[int], digests: Sequence[str]) -> Any:
    """Scores in chunks of answers: one list of many thousand parameters is slower than several short ones."""
    keys, step = list(answers), 10_000
    for start in range(0, len(keys), step):
        found = Score.objects.filter(answer__in=keys[start : start + step], scorer__in=digests)
        yield from found.values_list("answer_id", "scorer", "value", "problem").iterator(
            chunk_size=5000
        )


def _sheet_arm(arm: Arm) -> SheetArm:
    step = arm.facts.get("step")
    recipe = f"{arm.recipe}@{step}" if arm.recipe else ""
    return SheetArm(arm.pk, arm.name, arm.train_seed, recipe)
