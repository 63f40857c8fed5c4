"""Playgrounds: a run that loads two models and answers prompts with both, and with what they give together.

What the spec says of one, and what people may ask of it; trainer and server read both from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from trainer.methods import BASIC
from trainer.section import Section

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trainer.spec import RunSpec

FEWEST, MOST = 2, 3
"""Models of a playground: the two that are compared, and the base of proxy tuning."""
PROMPT_MOST = 8_000
"""Characters of a prompt."""
OPEN_MOST = 8
"""Prompts of one playground that may wait for an answer at a time."""

READERS: tuple[str, ...] = ("a", "b")
"""Under which models each answer is read."""

Voice = Literal["a", "b", "base", "blend"]
"""Who answers: the first model, the second one, the third one, or several together."""
VOICES: tuple[Voice, ...] = ("a", "b", "base", "blend")


class Play(Section):
    """What a playground loads, and how long it waits."""

    models: tuple[str, ...] = Field((), json_schema_extra=BASIC)
    """For a run of kind "play": the two models that answer, named as `model.name` names one, and as a third one
    the base that proxy tuning adds their difference to. All must have the same tokens."""
    idle_minutes: float = Field(15, gt=0, le=1440)
    """A playground ends when nobody has asked for so long. Healthy: 5 to 60. Unit: minutes."""


class Blend(Section):
    """How models answer together: a weighted sum of their logits at every token."""

    mode: Literal["mix", "proxy"] = "mix"
    """`mix`: log p = (1 - w) log p_A + w log p_B, renormalised. `proxy`: softmax(s_base + w (s_B - s_A)).
    Source: arXiv 2508.21016 (RLG) for mix, arXiv 2401.08565 for proxy."""
    weight: float = Field(0.5, ge=-1, le=3)
    """w: 0 is A alone (or the base), 1 is B alone (or the whole difference); beyond 1 exaggerates."""


class Question(Section):
    """One prompt for a playground."""

    prompt: str = Field(min_length=1, max_length=PROMPT_MOST)
    """The text, or what the user says where `chat` is set."""
    chat: bool = False
    """Send it as a user's message, through each model's own chat template."""
    voices: tuple[Voice, ...] = Field(("a", "b"), min_length=1, max_length=len(VOICES))
    """Who is to answer."""
    blend: Blend | None = None
    """How the models answer together; with "blend" among the voices."""
    samples: int = Field(1, ge=1, le=4)
    """Answers of each voice."""
    temperature: float = Field(1.0, ge=0, le=10)
    """0 takes the likeliest token."""
    top_p: float = Field(1.0, gt=0, le=1)
    """The likeliest tokens that sum to this mass are drawn from."""
    top_k: int = Field(0, ge=0)
    """Only so many of the likeliest tokens are drawn from; 0 keeps all."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Tokens less likely than this share of the likeliest one are never drawn."""
    max_new_tokens: int = Field(64, ge=1, le=1024)
    """Longest answer. Unit: tokens."""
    seed: int = Field(0, ge=0, lt=2**31)
    """With the prompt and the number of the answer it gives the random numbers, which all voices share."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(set(self.voices)) != len(self.voices):
            raise ValueError("voices: each answers once; name none of them twice")
        if ("blend" in self.voices) != (self.blend is not None):
            raise ValueError(
                'blend: goes together with "blend" among the voices; give both or neither'
            )
        if self.temperature == 0 and self.samples > 1:
            raise ValueError(
                f"samples: at a temperature of 0 the {self.samples} answers are one and the same; ask for 1"
            )
        return self

    @property
    def given(self) -> str | list[dict[str, str]]:
        """The prompt as a data row would hold it."""
        return [{"role": "user", "content": self.prompt}] if self.chat else self.prompt

    @property
    def needs_base(self) -> bool:
        """Whether it asks for the third model."""
        return "base" in self.voices or (self.blend is not None and self.blend.mode == "proxy")

    @property
    def expected(self) -> int:
        """How many answers it gets."""
        return len(self.voices) * self.samples


_SILENT = (
    "seed", "reference", "adapter", "data", "objective", "rewards", "rollout", "correction", "curriculum",
    "guidance", "optimizer", "schedule", "budget", "evaluation", "checkpoint", "diagnostics",
)  # fmt: skip
"""Parts of a spec that do nothing in a playground."""
_SILENT_OF_MODEL = ("warm_start", "revision", "options")


def play_contradictions(spec: RunSpec) -> Iterator[str]:
    """One sentence per contradiction, each begins with the field: `section.field: what to change`."""
    if spec.kind != "play":
        if spec.play.models:
            yield 'play.models: are for a run of kind "play"; leave them out, or set kind to "play"'
        return
    if not FEWEST <= len(spec.play.models) <= MOST:
        yield (
            f"play.models: names {len(spec.play.models)}; give the two that are compared, and as a third "
            "one the base of proxy tuning if you want it"
        )
    for number, name in enumerate(spec.play.models):
        if not name.strip() or name == "starter":
            yield (
                f"play.models.{number}: {name or 'an empty name'} is no trained model; name a checkpoint:ID, "
                "run:ID, folder or hub id"
            )
    if spec.model.name != "starter":
        yield "model.name: a playground names its models in play.models; leave it out"
    for name in _SILENT_OF_MODEL:
        if getattr(spec.model, name):
            yield f"model.{name}: does nothing in a playground; leave it out"
    for name in _SILENT:
        field = type(spec).model_fields[name]
        if getattr(spec, name) != field.get_default(call_default_factory=True):
            yield f"{name}: does nothing in a playground; leave it out"
    if spec.resources.world > 1:
        yield "resources: a playground is one process; ask for one GPU or none, and one machine"
