"""Ratings from votes: Bradley-Terry with ties, the advantage of the left side, and style control.

Sources: Davidson 1970 for ties (see `davidson`); Davidson and Beaver 1977 for the side; Li, Angelopoulos and
Chiang 2024, "Does style matter?", for style as covariates of the differences (a - b) / (a + b + 1), each in
units of its own root mean square.

Legend: A arms, N votes, P prompts, F features, R resamples, U rows that differ, O outcomes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.evidence.davidson import davidson_fit
from orchestrator.evidence.intervals import Interval, draws, level_check, percentile_interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from orchestrator.evidence.votes import Style, Vote

POINTS = 400 / np.log(10)
"""Of a rating, for one logit."""
MEAN = 1000.0
STYLES = ("length", "headers", "lists", "bold")
CELLS = 2_000_000
"""Numbers of one batch of refits."""


@dataclass(frozen=True)
class Rating:
    """One arm."""

    arm: str
    rating: float
    """1000 on average over the arms; 400 more is odds of 10 to 1 among votes that decide."""
    interval: Interval
    rank: int
    """1 plus the arms that are surely better: whose interval of the difference to this one lies above 0."""
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int


@dataclass(frozen=True)
class Ratings:
    """All arms, the best first, and what else moved the votes."""

    ratings: tuple[Rating, ...]
    left_advantage: float | None
    """Rating points that the answer on the left has for being there; None where arms never changed sides, so
    that it cannot be told from their strengths."""
    left_interval: Interval | None
    style: dict[str, float]
    """Rating points for one typical (root mean square) difference of each feature; empty without style
    control, and without the features that never differ."""
    style_intervals: dict[str, Interval]
    tie_share: float
    """Share of votes that are ties or both bad."""
    votes: int
    prompts: int
    judges: int
    level: float


def ratings(
    votes: Sequence[Vote],
    *,
    style_control: bool = False,
    weights: Mapping[str, float] | None = None,
    level: float = 0.95,
    resamples: int = 500,
    seed: int = 0,
) -> Ratings:
    """Maximum likelihood with a weak prior, percentile intervals by bootstrap over prompts.

    Ties and "both bad" share the tie outcome: neither tells who is stronger; how often an arm's votes were
    "both bad" is counted beside it. Gold votes are left out. `weights`: of judges, 1 where one is not named (see
    `agreement.judge_weights`).
    ValueError where arms were never compared, not even through others; where style control is asked for and a
    vote has no style; for a negative weight; for votes on fewer than two prompts.
    """
    level_check(level, resamples)
    votes = [vote for vote in votes if vote.gold is None]
    weight_N = _weights(votes, weights or {})
    prompts = sorted({vote.prompt for vote in votes})
    if len(prompts) < 2:
        raise ValueError(
            f"votes: they are on {len(prompts)} prompts; ratings need votes on two or more"
        )
    arms = sorted({arm for vote in votes for arm in (vote.left, vote.right)})
    _connected(arms, [v for v, weight in zip(votes, weight_N.tolist(), strict=True) if weight > 0])
    x_NF, sided, styles = _features(votes, arms, style_control)
    at = {prompt: number for number, prompt in enumerate(prompts)}
    prompt_N = np.array([at[vote.prompt] for vote in votes])
    outcome_N = np.array([{"left": 0, "right": 1}.get(vote.outcome, 2) for vote in votes])
    fitted = _fitted(x_NF, outcome_N, prompt_N, weight_N, len(arms), resamples, seed)
    first = len(arms) + sided
    rated = [
        Rating(
            arm,
            MEAN + float(fitted.points_F[number]),
            fitted.interval(number, level, MEAN),
            fitted.rank(number, len(arms), level),
            **_record(arm, votes),
        )
        for number, arm in enumerate(arms)
    ]
    return Ratings(
        ratings=tuple(sorted(rated, key=lambda found: -found.rating)),
        left_advantage=float(fitted.points_F[len(arms)]) if sided else None,
        left_interval=fitted.interval(len(arms), level) if sided else None,
        style={name: float(fitted.points_F[first + n]) for n, name in enumerate(styles)},
        style_intervals={name: fitted.interval(first + n, level) for n, name in enumerate(styles)},
        tie_share=float((outcome_N == 2).mean()),
        votes=len(votes),
        prompts=len(prompts),
        judges=len({vote.judge for vote in votes}),
        level=level,
    )


@dataclass(frozen=True, eq=False)
class Fitted:
    """Rating points of arms (mean 0), side and styles, and those of every resample of the prompts."""

    points_F: NDArray[np.float64]
    drawn_RF: NDArray[np.float64]
    prompts: int

    def interval(self, at: int, level: float, offset: float = 0.0) -> Interval:
        """Of one feature."""
        return percentile_interval(
            self.drawn_RF[:, at], level=level, prompts=self.prompts, offset=offset
        )

    def rank(self, at: int, arms: int, level: float) -> int:
        """1 plus the arms that are surely better than this one."""
        ahead_RA = self.drawn_RF[:, :arms] - self.drawn_RF[:, at : at + 1]
        return 1 + int((np.quantile(ahead_RA, 0.5 - level / 2, axis=0) > 0).sum())


def _fitted(
    x_NF: NDArray[np.float64],
    outcome_N: NDArray[np.int64],
    prompt_N: NDArray[np.int64],
    weight_N: NDArray[np.float64],
    arms: int,
    resamples: int,
    seed: int,
) -> Fitted:
    # Votes that look the same are fitted as one row: thousands become a few without style control.
    rows_UF, row_N = np.unique(np.column_stack([x_NF, outcome_N]), axis=0, return_inverse=True)
    outcomes_UO = np.eye(3)[rows_UF[:, -1].astype(int)]

    def points(counts_RP: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R, F) for each weighting of the prompts."""
        weights_RN = counts_RP[:, prompt_N] * weight_N
        weights_RU = np.zeros((len(counts_RP), len(rows_UF)))
        np.add.at(weights_RU.T, row_N.ravel(), weights_RN.T)
        points_RF = POINTS * davidson_fit(rows_UF[:, :-1], outcomes_UO, weights_RU)[0]
        points_RF[:, :arms] -= points_RF[:, :arms].mean(axis=1, keepdims=True)
        return points_RF

    prompts = int(prompt_N.max()) + 1
    batch = max(1, CELLS // (len(x_NF) + rows_UF.size))
    drawn_RP = np.concatenate(list(draws(prompts, resamples, seed)))
    drawn = [points(drawn_RP[at : at + batch]) for at in range(0, resamples, batch)]
    return Fitted(points(np.ones((1, prompts)))[0], np.concatenate(drawn), prompts)


def _weights(votes: Sequence[Vote], given: Mapping[str, float]) -> NDArray[np.float64]:
    """(N,) the weight of each vote's judge; ValueError for a negative one."""
    weight_N = np.array([given.get(vote.judge, 1.0) for vote in votes])
    if not (np.isfinite(weight_N) & (weight_N >= 0)).all():
        raise ValueError("weights: give each judge a number of 0 or more")
    return weight_N


def _features(
    votes: Sequence[Vote], arms: list[str], style_control: bool
) -> tuple[NDArray[np.float64], bool, list[str]]:
    """(N, F) left arm minus right arm, the left side where it can be told, differences of style; whether there
    is a side, and which styles there are."""
    at = {arm: number for number, arm in enumerate(arms)}
    sides_NA = np.zeros((len(votes), len(arms)))
    rows = np.arange(len(votes))
    sides_NA[rows, [at[vote.left] for vote in votes]] = 1.0
    sides_NA[rows, [at[vote.right] for vote in votes]] = -1.0
    with_side_NF = np.column_stack([sides_NA, np.ones(len(votes))])
    distinct = np.unique(with_side_NF, axis=0)
    sided = bool(np.linalg.matrix_rank(distinct) > np.linalg.matrix_rank(distinct[:, :-1]))
    x_NF = with_side_NF if sided else sides_NA
    if not style_control:
        return x_NF, sided, []
    styles_NF = np.array([[_contrast(vote, name) for name in STYLES] for vote in votes])
    typical_F = np.sqrt((styles_NF**2).mean(axis=0))
    there = [name for name, size in zip(STYLES, typical_F.tolist(), strict=True) if size > 0]
    kept_NF = styles_NF[:, typical_F > 0] / typical_F[typical_F > 0]
    return np.column_stack([x_NF, kept_NF]), sided, there


def _contrast(vote: Vote, name: str) -> float:
    """Difference of one feature of style, -1 to 1."""
    if vote.left_style is None or vote.right_style is None:
        raise ValueError(
            f"style_control: the vote of {vote.judge!r} on {vote.prompt!r} has no style; "
            "give left_style and right_style"
        )
    left, right = (_count(answer, name) for answer in (vote.left_style, vote.right_style))
    return (left - right) / (left + right + 1)


def _count(answer: Style, name: str) -> int:
    count: int = getattr(answer, name)
    return count


def _record(arm: str, votes: Sequence[Vote]) -> dict[str, int]:
    """How the arm's votes came out."""
    own = [vote for vote in votes if arm in (vote.left, vote.right)]
    outcomes = Counter(vote.outcome for vote in own)
    sided = outcomes["left"] + outcomes["right"]
    wins = sum(vote.outcome in ("left", "right") and vote.choice == arm for vote in own)
    return {
        "votes": len(own),
        "wins": wins,
        "losses": sided - wins,
        "ties": outcomes["tie"],
        "both_bad": outcomes["both bad"],
    }


def _connected(arms: list[str], votes: Sequence[Vote]) -> None:
    """ValueError where two arms were never compared, not even through others."""
    reached, edge = {arms[0]}, {arms[0]}
    while edge:
        edge = {
            arm
            for vote in votes
            if edge & {vote.left, vote.right}
            for arm in (vote.left, vote.right)
        } - reached
        reached |= edge
    if apart := [arm for arm in arms if arm not in reached]:
        raise ValueError(
            f"votes: {apart[0]!r} was never compared with {arms[0]!r}, not even through other arms; "
            "collect votes that link them, or rate them apart"
        )
