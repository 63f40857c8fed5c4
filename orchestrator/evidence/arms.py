"""Arms: what is compared, scored on the same prompts. A failed item is NaN and never a 0.

Legend: S training seeds, P prompts, K samples a prompt.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

NO_REASON = "no score"
"""What a failed item without a stated reason counts under."""


@dataclass(frozen=True, eq=False)
class Arm:
    """A checkpoint, or several training seeds of one recipe."""

    name: str
    scores: NDArray[np.float64]
    """(P, K) for one training seed, (S, P, K) for several; (P,) is read as one sample a prompt. NaN: the item
    failed."""
    faults: Mapping[tuple[int, ...], str] = field(default_factory=dict)
    """Why an item failed, by its index in `scores`: {(prompt, sample): "the judge did not answer"}."""

    def __post_init__(self) -> None:
        """Bring scores to (S, P, K).

        ValueError where they have another number of axes, are infinite, or a fault names an item that has a
        score.
        """
        scores = np.array(self.scores, dtype=np.float64)
        if scores.ndim == 1:
            scores = scores[:, None]
        given = scores.ndim
        if given == 2:
            scores = scores[None]
        if scores.ndim != 3 or 0 in scores.shape:
            raise ValueError(
                f"scores of {self.name!r}: give an array of prompts x samples, or of training seeds x prompts x "
                f"samples, none of them 0; these have the shape {np.shape(self.scores)}"
            )
        if np.isinf(scores).any():
            raise ValueError(f"scores of {self.name!r}: infinite; give NaN for an item that failed")
        faults = {}
        for index, why in self.faults.items():
            place = tuple(index) + (0,) * (np.ndim(self.scores) == 1)
            place = (0,) * (3 - len(place)) + place
            if len(place) != 3 or any(
                not 0 <= at < size for at, size in zip(place, scores.shape, strict=True)
            ):
                raise ValueError(
                    f"faults of {self.name!r}: there is no item {index} in scores of shape {np.shape(self.scores)}"
                )
            if not np.isnan(scores[place]):
                raise ValueError(
                    f"faults of {self.name!r}: item {index} has a score; make it NaN or drop its fault"
                )
            faults[place] = why
        scores.setflags(write=False)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "faults", faults)

    @property
    def seeds(self) -> int:
        """Training seeds."""
        return int(self.scores.shape[0])


@dataclass(frozen=True)
class LeftOut:
    """What of a pair has no part in its comparison."""

    prompts: int
    """Prompts where one arm has no score at all."""
    samples: int
    """Failed items of both arms, on these prompts and on those that stayed."""
    why: dict[str, int]
    """Failed items by "arm: reason", the most frequent first."""

    @property
    def sentence(self) -> str:
        """Empty where nothing was left out."""
        if not self.samples:
            return ""
        reasons = ", ".join(f"{why} ({count})" for why, count in self.why.items())
        return f"Left out: {self.prompts} prompts and {self.samples} failed items: {reasons}."


@dataclass(frozen=True, eq=False)
class Pair:
    """Two arms on the prompts where both have a score."""

    candidate: str
    baseline: str
    prompts: tuple[str, ...]
    candidate_scores_SPK: NDArray[np.float64]
    baseline_scores_SPK: NDArray[np.float64]
    """The two may have different numbers of seeds and of samples."""
    left_out: LeftOut

    @property
    def candidate_SP(self) -> NDArray[np.float64]:
        """Means over the samples that have a score, a training seed and prompt."""
        return _sample_means(self.candidate_scores_SPK)

    @property
    def baseline_SP(self) -> NDArray[np.float64]:
        """Means over the samples that have a score, a training seed and prompt."""
        return _sample_means(self.baseline_scores_SPK)

    @property
    def difference_P(self) -> NDArray[np.float64]:
        """Candidate minus baseline, a prompt: means over samples, then over seeds."""
        difference: NDArray[np.float64] = self.candidate_SP.mean(axis=0) - self.baseline_SP.mean(
            axis=0
        )
        return difference

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest score, 0..1 at the narrowest: what the scores are taken to be able to be."""
        scores = (self.candidate_scores_SPK, self.baseline_scores_SPK)
        least = min(float(np.nanmin(array)) for array in scores)
        greatest = max(float(np.nanmax(array)) for array in scores)
        return min(0.0, least), max(1.0, greatest)

    @property
    def seeds(self) -> tuple[int, int]:
        """Training seeds of candidate and baseline."""
        return self.candidate_scores_SPK.shape[0], self.baseline_scores_SPK.shape[0]

    @property
    def samples(self) -> tuple[int, int]:
        """Samples a prompt of candidate and baseline."""
        return self.candidate_scores_SPK.shape[2], self.baseline_scores_SPK.shape[2]

    @property
    def binary(self) -> bool:
        """Whether every score is 0 or 1."""
        return all(
            bool(np.isin(scores[~np.isnan(scores)], (0.0, 1.0)).all())
            for scores in (self.candidate_scores_SPK, self.baseline_scores_SPK)
        )

    @property
    def paired_answers(self) -> bool:
        """Whether each prompt has one answer a side that is right or wrong: a 2x2 table says all."""
        return self.binary and self.seeds == (1, 1) and self.samples == (1, 1)


@dataclass(frozen=True, eq=False)
class Arms:
    """Two or more arms on the same prompts, in the same order."""

    prompts: tuple[str, ...]
    """Names of the prompts, each once."""
    arms: tuple[Arm, ...]

    def __post_init__(self) -> None:
        """ValueError where a name is there twice, or an arm has another number of prompts."""
        object.__setattr__(self, "prompts", tuple(self.prompts))
        object.__setattr__(self, "arms", tuple(self.arms))
        for what, names in (("prompts", self.prompts), ("arms", tuple(a.name for a in self.arms))):
            twice = [name for name, count in Counter(names).items() if count > 1]
            if twice:
                raise ValueError(
                    f"{what}: {twice[0]!r} is there twice; give each a name of its own"
                )
        for arm in self.arms:
            if arm.scores.shape[1] != len(self.prompts):
                raise ValueError(
                    f"scores of {arm.name!r}: {arm.scores.shape[1]} prompts where there are {len(self.prompts)}"
                )

    def __getitem__(self, name: str) -> Arm:
        """The arm of that name; ValueError where there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        names = ", ".join(repr(arm.name) for arm in self.arms)
        raise ValueError(f"there is no arm {name!r}; there are {names}")

    def pair(self, candidate: str, baseline: str) -> Pair:
        """The two on the prompts where both have a score; says what was left out and why.

        A training seed without a score on a prompt counts as missing there, so the prompt is left out:
        dropping it from one seed alone would compare seeds on different prompts. ValueError where no prompt is
        left, or for an unknown name.
        """
        one, other = self[candidate], self[baseline]
        if one is other:
            raise ValueError(f"baseline: {baseline!r} is the candidate itself; name another arm")
        both_P = _whole(one.scores) & _whole(other.scores)
        if not both_P.any():
            raise ValueError(
                f"{candidate!r} and {baseline!r} have no prompt on which both have a score"
            )
        why: Counter[str] = Counter()
        for arm in (one, other):
            for place in map(tuple, np.argwhere(np.isnan(arm.scores)).tolist()):
                why[f"{arm.name}: {arm.faults.get(place, NO_REASON)}"] += 1
        left_out = LeftOut(int((~both_P).sum()), why.total(), dict(why.most_common()))
        prompts = tuple(
            name for name, kept in zip(self.prompts, both_P.tolist(), strict=True) if kept
        )
        return Pair(
            candidate, baseline, prompts, one.scores[:, both_P], other.scores[:, both_P], left_out
        )


def _whole(scores_SPK: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(P,) whether each seed has at least one score on the prompt."""
    return np.asarray((~np.isnan(scores_SPK)).any(axis=2).all(axis=0))


def _sample_means(scores_SPK: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S, P)"""
    means: NDArray[np.float64] = np.nanmean(scores_SPK, axis=2)
    return means
