"""Ratings from votes, and votes as a data set of preference pairs."""

from __future__ import annotations

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from orchestrator.api.access import OPERATORS
from orchestrator.api.ballots import ComparisonId, comparison_or_404
from orchestrator.api.shapes import Strict
from orchestrator.selectors.ratings import ratings_shape
from orchestrator.services.datasets import NAME_MOST
from orchestrator.services.preferences import preferences_export

router = Router(tags=["comparisons"])

Ends = list[float] | None
"""Low and high of a 95 % interval."""


class RatingOut(Schema):
    """One model: rating points (1000 on average, 400 more are odds of 10 to 1), and how its votes came out."""

    arm: str
    rating: float
    interval: Ends
    rank: int
    """1 plus the models that are surely better."""
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int


class PointsOut(Schema):
    """Rating points of the left side."""

    points: float
    interval: Ends


class StyleOut(PointsOut):
    """Rating points for a typical difference of one feature of style."""

    feature: str


class WinsOut(Schema):
    """How one model came out against another."""

    arm: str
    against: str
    votes: int
    wins: int
    losses: int
    ties: int
    both_bad: int


class KappaOut(Schema):
    """Cohen's kappa with another judge, on what both judged."""

    judge: str
    kappa: float | None
    shared: int


class JudgeOut(Schema):
    """One judge: agreement with others, and how it does on test items."""

    judge: str
    votes: int
    gold: int
    gold_right: float | None
    gold_interval: Ends
    left_share: float | None
    weight: float
    kappas: list[KappaOut]


class PositionOut(Schema):
    """Whether the side counts."""

    decided: int
    left_share: float | None
    interval: Ends
    p: float
    swapped: int
    consistent: float | None


class BlockOut(Schema):
    """Ratings from one kind of judges."""

    votes: int
    gold: int
    judges: int
    prompts: int
    sentence: str
    cautions: list[str]
    ratings: list[RatingOut]
    left_advantage: PointsOut | None
    style: list[StyleOut]
    tie_share: float | None
    wins: list[WinsOut]
    agreement: list[JudgeOut]
    fleiss: float | None
    position: PositionOut


class ModelsOut(BlockOut):
    """The same from judge models."""

    failed: int
    """Judgements that came to nothing."""


class RatingsOut(Schema):
    """People's votes, and apart from them what judge models said."""

    style_control: bool
    weighted: bool
    arms: list[str]
    undone: int
    identical: int
    """Pairs of equal answers: nobody is asked about them, and they are ties apart from those of votes."""
    gold_marks: int
    people: BlockOut
    models: ModelsOut


class PreferencesIn(Strict):
    """What to make of the votes."""

    name: str = Field("", max_length=NAME_MOST)
    against: list[Annotated[str, Field(max_length=100)]] = Field(default_factory=list)
    """Evaluation sets whose prompts are left out: ids of data sets, or `run:ID` for what a run evaluates on."""
    weighted: bool = False
    """Votes count by how their voter does on test items."""


class PreferencesOut(Schema):
    """The data set that was made."""

    dataset: str
    name: str
    pairs: int
    left_out: dict[str, int]
    """Why pairs are not in it, and how many."""
    sets: list[str]
    """What the prompts were held against."""


@router.get("/comparisons/{comparison_id}/ratings", response=RatingsOut)
def ratings_read(
    request: HttpRequest,
    comparison_id: ComparisonId,
    style: Annotated[bool, Query()] = False,
    weights: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    """Bradley-Terry ratings with intervals. `style`: for equal length, headers, lists and bold; `weights`:
    votes count by how their voter does on test items."""
    comparison = comparison_or_404(comparison_id)
    return ratings_shape(comparison, style_control=style, weighted=weights)


@router.post(
    "/comparisons/{comparison_id}/preferences", auth=OPERATORS, response={201: PreferencesOut}
)
def preferences_make(
    request: HttpRequest, comparison_id: ComparisonId, payload: PreferencesIn
) -> tuple[int, dict[str, Any]]:
    """Store the pairs that votes decided as a data set for DPO and its kin."""
    made = preferences_export(
        comparison=comparison_or_404(comparison_id),
        user=request.auth.user,
        **payload.model_dump(),
    )
    told = {"dataset": made.dataset.pk, "name": made.dataset.name, "pairs": made.pairs}
    return 201, {**told, "left_out": made.left_out, "sets": made.sets}
