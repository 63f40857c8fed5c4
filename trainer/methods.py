"""What a method of each family must be able to do: the base classes.

A knob class is its own config: frozen, with bounds, defaults and a docstring under each field. The
docstring's first sentences say what the knob does; lines that begin `Unit:`, `Healthy:` and `Source:`
feed the form, the OpenAPI schema and the catalogue.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import torch


BASIC: dict[str, Any] = {"basic": True}
"""`Field(json_schema_extra=BASIC)`: the form shows this knob unfolded."""

Row = dict[str, Any]
"""One row of data: `prompt` (text or chat messages) and `answer`, `completion`, or `chosen` and `rejected`."""

LearnsFrom = Literal["rollouts", "pairs", "demonstrations"]


@dataclass
class Loss:
    """A summed loss with what it measured on the way."""

    value: torch.Tensor
    """Scalar; the gradient of the optimizer batch is the sum over its micro-batches."""
    means: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Metric -> (sum, n): added up over micro-batches, divided once."""
    maxima: dict[str, float] = field(default_factory=dict)
    minima: dict[str, float] = field(default_factory=dict)


class Method(BaseModel):
    """A registered method: a frozen set of knobs with one verb. Subclasses add `type: Literal[...]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Objective(Method):
    """A loss. `learns_from` says which rows it needs; the engine supplies them and asks nothing by name."""

    learns_from: ClassVar[LearnsFrom]
    needs: ClassVar[frozenset[str]] = frozenset()
    """What the engine must supply besides: "reference" (log-probs of the reference model), "reward"."""
    primary: ClassVar[str] = "loss"
    """The metric that the run list and the run page show first."""
    charts: ClassVar[tuple[str, ...]] = ()
    """Metric keys of the default charts, in order; `a|b` puts two series in one chart."""
    formula: ClassVar[str] = ""
    """The loss in plain text, for the catalogue."""

    @property
    def uses_reference(self) -> bool:
        """Whether this setting of the knobs needs the reference model (a zero weight may not)."""
        return "reference" in self.needs

    @property
    def silent_without_advantage(self) -> bool:
        """Whether an answer with advantage 0 has exactly no gradient, so that its forward pass may be skipped."""
        return False

    @abstractmethod
    def token_weights(self, batch: Any) -> torch.Tensor:
        """Per-token weights (N, T) of the whole optimizer batch: mask and normaliser folded into one.

        Computed once per optimizer step; micro-batches then only sum, so that the gradient does not
        depend on how the batch was split.
        """

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """The summed, weighted loss of a micro-batch (`batch.weight_BT` carries the normaliser)."""


class Advantage(Method):
    """From the rewards of a rollout batch to one advantage per answer."""

    needs_group: ClassVar[bool] = True
    formula: ClassVar[str] = ""

    @abstractmethod
    def advantages(self, rewards_N: torch.Tensor, groups_N: torch.Tensor) -> torch.Tensor:
        """Advantages (N,) of answers with rewards (N,) (NaN = not scorable) in groups (N,) of ids.

        A group of one, an all-equal group and an unscorable answer get 0.
        """


@dataclass(frozen=True)
class Answer:
    """One sampled answer, as a reward sees it."""

    prompt: str
    text: str
    tokens: int
    finish_reason: Literal["stop", "length"]
    row: Mapping[str, Any] = field(default_factory=dict)
    """The data row of the prompt: `answer` and every other column."""


class Reward(Method):
    """Scores an answer. Runs on nodes only, on the CPU."""

    name: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")
    """Name in the metrics (`rewards/NAME/mean`); empty means the method's own name."""
    weight: float = Field(1.0, json_schema_extra=BASIC)
    """Factor of this part in the total reward. Healthy: 0.1 to 1; negative makes it a penalty."""
    exact: ClassVar[bool] = False
    """True when a score of 1 means that the answer is right: evaluation reports it as accuracy."""

    @property
    def label(self) -> str:
        """The name used in metrics."""
        return self.name or str(getattr(self, "type", ""))

    @abstractmethod
    def score(self, answer: Answer) -> float | None:
        """The score, or None when this answer cannot be scored (it is then left out of the means)."""


class Curriculum(Method):
    """In which order rows are visited."""

    @abstractmethod
    def order(self, count: int, epoch: int, seed: int) -> Sequence[int]:
        """A permutation of range(count) for this epoch: a pure function, so that resuming is exact."""


class Guidance(Method):
    """Help given to the policy while it samples; `none` gives none."""


class Optimizer(Method):
    """From gradients to weights."""

    lr: float = Field(1e-4, gt=0, le=10, json_schema_extra={**BASIC, "live": True})
    """Peak learning rate; the schedule multiplies it. Healthy: 1e-6 to 1e-5 for models above 1 B
    parameters, 1e-4 to 1e-3 for tiny ones and for LoRA."""
    max_grad_norm: float = Field(1.0, ge=0)
    """Gradients are scaled down to this global norm; 0 turns clipping off. Healthy: 0.1 to 1."""

    @abstractmethod
    def build(self, parameters: Iterable[tuple[str, torch.nn.Parameter]]) -> torch.optim.Optimizer:
        """A torch optimizer over named parameters."""


class Schedule(Method):
    """How the learning rate moves over the run."""

    warmup_steps: int = Field(0, ge=0, json_schema_extra=BASIC)
    """Steps over which the rate rises linearly from 0. Unit: steps. Healthy: 1 to 10 % of the run."""

    @abstractmethod
    def after_warmup(self, progress: float) -> float:
        """The factor of the rate at `progress` in [0, 1] of the steps after warm-up."""

    def factor(self, step: int, total_steps: int) -> float:
        """The factor of the learning rate at optimizer step `step` (1-based) of `total_steps`."""
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        rest = max(1, total_steps - self.warmup_steps)
        return self.after_warmup(min(1.0, (step - self.warmup_steps - 1) / rest))


class Adapter(Method):
    """Which weights are trained; `none` trains all of them."""


class Source(Method):
    """A built-in source of rows, made on the spot."""

    own_split: ClassVar[bool] = False
    """Whether `rows` itself keeps the splits apart; else a row's prompt decides by its hash."""

    @abstractmethod
    def rows(self, split: str, seed: int) -> Iterable[Row]:
        """The rows of a split ("train", "test"); an endless stream is fine: the caller takes `limit`."""

    def characters(self) -> str:
        """Every character that its rows can hold, for the starter model's tokenizer."""
        return ""


class Transform(Method):
    """Turns rows into other rows, before training."""

    @abstractmethod
    def apply(self, rows: Sequence[Row]) -> list[Row]:
        """The new rows. Raises ValueError that names the missing column."""


class Evaluator(Method):
    """A measurement beside the reward, taken at evaluation."""


class Diagnostic(Method):
    """An extra series that explains a run."""
