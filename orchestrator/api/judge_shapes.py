"""What the API takes and gives of the judges of a comparison, as it stands in OpenAPI."""

from __future__ import annotations

from typing import Any, Literal

from ninja import Field, Schema

from orchestrator.api.shapes import Strict


class JudgeKnobs(Strict):
    """A chat model at an OpenAI-compatible address; its node asks it."""

    url: str = Field("", max_length=500)
    """Without `/chat/completions`: http://127.0.0.1:8001/v1."""
    model: str = Field("", max_length=200)
    """What the service calls the model."""
    key_variable: str = Field("", max_length=64)
    """Variable of the node's environment that holds the key; its name begins with ANNEAL_JUDGE_."""
    swap: bool = True
    """Show each pair both ways round: an answer wins that wins in both."""
    repeats: int = Field(1, ge=1, le=32)
    """How often each order is asked; the verdict given most often counts. Above 1, temperature must be above 0."""
    temperature: float = Field(0.0, ge=0, le=2)
    instruction: str = Field("", max_length=10_000)
    """The rubric: what the judge is told to look at."""
    column: str = Field("", max_length=200)
    """Column of the prompts that the judge is shown as the reference answer."""
    max_reply_tokens: int = Field(512, ge=1, le=32768)
    timeout_seconds: float = Field(60.0, gt=0, le=600)
    retries: int = Field(3, ge=0, le=10)
    parallel: int = Field(4, ge=1, le=64)


class JudgeAdd(JudgeKnobs):
    """A judge, and which two models it compares; all with the baseline where none is named."""

    left: str = Field("", max_length=120)
    right: str = Field("", max_length=120)


class JudgeAsk(Strict):
    """Ask what is missing."""

    failed: bool = False
    """And once more what came to nothing."""


class PairsOut(Schema):
    """Pairs of answers before a judge."""

    wanted: int
    there: int
    failed: int
    """Asked, without a verdict: missing, never a tie."""
    identical: int
    """Equal answers: ties, and nobody is asked."""
    unanswered: int


class JudgeOut(Schema):
    """A judge of a comparison."""

    digest: str
    url: str
    model: str
    swap: bool
    repeats: int
    knobs: dict[str, Any]
    state: Literal["waiting", "running", "ready", "incomplete", "stopped", "failed"]
    reason: str
    live: bool
    """Whether a run of it has not ended."""
    runs: list[str]
    pairs: PairsOut
    findings: list[dict[str, Any]]
    """Two models each, as in `/evidence`, of wins as scores (a tie is 0.5): besides, shares of win, tie, loss and
    the win rate with 95 % intervals, and `lengths` with the length-controlled win rate."""
    order: dict[str, Any] | None
    """Share of pairs, seen both ways round, where the same side won both times: the order decided."""
    first: dict[str, Any] | None
    """Share of the verdicts for a side that went to the answer shown first."""
    consistency: dict[str, Any] | None
    """Share of repeats on the same answers in the same order that agree."""
    caution: str
    why: dict[str, int]
    """Reasons of what failed, by how many questions."""
    examples: list[dict[str, Any]]
