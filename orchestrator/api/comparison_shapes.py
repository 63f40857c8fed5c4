"""What the API takes and gives of comparisons, as it stands in OpenAPI."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from ninja import Field, Schema

from orchestrator.api.judge_shapes import JudgeKnobs  # noqa: TC001  a field's type
from orchestrator.api.shapes import Strict
from orchestrator.services.comparison_orders import NAME_MOST, SEED_END
from orchestrator.services.comparisons import NOTE_MOST
from trainer.spec import DataSource  # noqa: TC001  a field's type


class Sampling(Strict):
    """How every model is sampled: what `[evaluation]` of a spec says."""

    samples: int = Field(1, ge=1, le=256)
    """Answers to each prompt."""
    temperature: float = Field(1.0, ge=0, le=10)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, lt=2**31)
    min_p: float = Field(0.0, ge=0, lt=1)
    max_new_tokens: int = Field(0, ge=0, lt=2**31)
    """0 is the default of a rollout."""


class Promotion(Strict):
    """Approve each model that is better on one scorer than the baseline, and not much worse on another."""

    better_on: str = Field(..., min_length=1, max_length=64)
    """Label of the scorer on which the verdict must be "better"."""
    not_worse_on: str = Field("", max_length=64)
    """Label of a scorer whose interval must stay above minus the margin; "" for none."""
    margin: float = Field(0.0, ge=0, le=1e9)
    """In the unit of that scorer."""


class ComparisonCreate(Strict):
    """Models to compare."""

    checkpoints: list[str] = Field(default_factory=list, max_length=32)
    """2 to 6 of `checkpoint:ID`, `run:ID`, `external:ID`, a folder or a hub id; the first one is the baseline."""
    prompts: list[DataSource] = Field(default_factory=list, max_length=32)
    """Sources as in `data.eval` of a spec: datasets that were uploaded here, and built-in ones."""
    sampling: Sampling = Sampling()
    scorers: list[dict[str, Any]] = Field(default_factory=list, max_length=16)
    """Knobs as in `rewards` of a spec, such as {"type": "exact-match"}; the first one decides."""
    seed: int = Field(0, ge=0, lt=SEED_END)
    """Of sampling, the same for every model."""
    name: str = Field("", max_length=NAME_MOST)
    judges: list[JudgeKnobs] = Field(default_factory=list, max_length=8)
    """Models that compare all answers with the baseline's, as soon as they are there."""
    promotion: Promotion | None = None
    """Decided by itself as soon as nothing is missing any more."""


class ComparisonPatch(Strict):
    """What to change; fields that are left out stay."""

    name: str = Field("", max_length=NAME_MOST)
    note: str = Field("", max_length=NOTE_MOST)


class AnswersOut(Schema):
    """How many answers there are."""

    wanted: int
    there: int
    """Answered, and scored by every scorer."""
    failed: int
    """Failed for good: they count as missing, never as 0."""


class ArmOut(Schema):
    """One model of a comparison."""

    name: str
    position: int
    """0 is the baseline."""
    model: str
    checkpoint: str | None
    digest: str
    train_seed: int | None
    recipe: str
    facts: dict[str, Any]
    answers: AnswersOut
    runs: list[str]


class ScorerOut(Schema):
    """One scorer."""

    label: str
    digest: str
    knobs: dict[str, Any]


class ComparisonOut(Schema):
    """A comparison."""

    id: str
    name: str
    owner: str
    note: str
    created: datetime
    stopped: datetime | None
    imported: bool
    state: Literal["waiting", "running", "ready", "incomplete", "stopped", "failed"]
    reason: str
    items: int
    answers: AnswersOut
    prompts: list[dict[str, Any]]
    sampling: dict[str, Any]
    scorers: list[ScorerOut]
    seed: int
    promotion: dict[str, Any]
    """The rule, and in `decided` what came of it."""
    arms: list[ArmOut]


class ScoreOut(Schema):
    """What a scorer gave; `value` is null where it could not say, and `problem` says why."""

    value: float | None
    problem: str


class AnswerOut(Schema):
    """One answer."""

    id: int
    index: int
    text: str
    tokens: int
    finish_reason: str
    problem: str
    scores: dict[str, ScoreOut]


class PairArmOut(Schema):
    """One arm's answers to a prompt."""

    arm: str
    mean: float | None
    answers: list[AnswerOut]


class PairOut(Schema):
    """A prompt with the answers of all arms."""

    number: int
    digest: str
    part: str
    prompt: str
    reference: str
    difference: float | None
    """Mean of arm `b` minus mean of arm `a`."""
    arms: list[PairArmOut]


class SolvedOut(Schema):
    """How often an arm solved a prompt."""

    arm: str
    solved: int | None
    samples: int
    mean: float


class RegressionOut(PairOut):
    """A prompt on which `b` is worse than `a`."""

    certainty: float
    solved: list[SolvedOut]


class EvidenceOut(Schema):
    """What the scores say."""

    scorer: str
    unit: Literal["arms", "recipes"]
    baseline: str
    binary: bool
    """Whether every score is 0 or 1."""
    better: Literal["higher", "lower", ""]
    """Which scores are better: where lower ones are, differences are turned round, so that above 0 is better."""
    arms: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    """Candidate against baseline: difference, interval, p, p corrected over all findings (Holm), effect, power
    with the prompts still needed, always-valid sequence, length-controlled win rate, and the verdict in words."""
    impossible: list[dict[str, Any]]
    passes: list[dict[str, Any]]
    """pass@k of each arm with several samples a prompt."""
    recipes: bool
    """Whether arms can be joined by recipe: `unit=recipes`."""


class EvaluationSetAdd(Strict):
    """Prompts of a comparison that become a new version of a dataset."""

    name: str = Field("", max_length=NAME_MOST)
    """Of a new dataset."""
    dataset: str = Field("", max_length=12)
    """Or the dataset whose rows come first in the new version."""
    items: list[int] = Field(default_factory=list, max_length=20_000)
    """Numbers of the prompts."""
