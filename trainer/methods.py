"""What a method of each family must be able to do: the base classes.

A knob class is its own config: frozen, with bounds, defaults and a docstring under each field. The
docstring's first sentences say what the knob does; lines that begin `Unit:`, `Healthy:` and `Source:`
feed the form, the OpenAPI schema and the catalogue.

Legend of shape suffixes in all families: B sequences or pairs of a micro-batch, N those of the whole
optimizer or rollout batch, T answer tokens, G groups, K rewards or outputs of a reward model; 1 stands for an
axis of length one.
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

LearnsFrom = Literal["rollouts", "pairs", "demonstrations", "labels", "ratings"]
"""Rows that an objective learns from: prompts alone; chosen and rejected answers; answers to imitate;
answers with a good-or-bad `label`; answers with a numeric `rating`."""

Need = Literal[
    "reference", "reward", "entropy", "collision", "critic", "score-head", "margin", "group", "greedy",
    "mismatched", "sampled-entropy",
]  # fmt: skip
"""What the engine supplies besides: log-probabilities of the reference model; rewards; the policy's
entropy with gradient; log sum of squared probabilities; a critic's values; a model that ends in a score
instead of a vocabulary; how much better a chosen answer is said to be; several answers of one prompt;
the reward of the greedy answer; scores of other rows' answers behind a prompt; entropies of the
distributions that tokens were drawn from."""


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
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What the engine must be able to supply; `uses` says what these knobs really ask for."""
    couples: ClassVar[bool] = False
    """Whether one sequence's loss depends on other sequences of the optimizer batch (sorting, a batch
    mean). The engine then differentiates the loss of the whole batch, whatever the micro-batches."""
    default_advantage: ClassVar[str] = "group-mean-std"
    """Online: the advantage that a spec gets which names none."""
    primary: ClassVar[str] = "loss"
    """The metric that the run list and the run page show first."""
    charts: ClassVar[tuple[str, ...]] = ()
    """Metric keys of the default charts, in order; `a|b` puts two series in one chart."""
    formula: ClassVar[str] = ""
    """The loss in plain text, for the catalogue."""

    @property
    def uses(self) -> frozenset[Need]:
        """What this setting of the knobs asks the engine for (a zero weight asks for nothing)."""
        return self.needs

    @property
    def steered(self) -> frozenset[str]:
        """Knobs that a controller moves away from what the spec says: to change them has no effect."""
        return frozenset()

    @property
    def embedding_noise(self) -> float:
        """Alpha of the noise that training forwards add to input embeddings (NEFTune); 0 adds none."""
        return 0.0

    @property
    def silent_without_advantage(self) -> bool:
        """Whether an answer with advantage 0 has exactly no gradient, so that its forward pass may be skipped."""
        return False

    @property
    def on_policy(self) -> bool:
        """Whether the gradient is right for the policy that sampled alone: one update per rollout batch."""
        return False

    def dials(
        self, before: Mapping[str, float], seen: Mapping[str, float], progress: float
    ) -> dict[str, float]:
        """Coefficients of the next optimizer step that move while the run goes on (beta, entropy_coef).

        A pure function of the last step's dials, what that step measured (metrics by name) and the
        share of the run that is done, in [0, 1]; both mappings are empty before the first step. The
        batch carries them to the loss, the checkpoint keeps them, each is a metric of its name.
        """
        return {}

    def reward_kl(self, dials: Mapping[str, float]) -> float:
        """Weight of the KL penalty that is subtracted from the reward; 0 where KL is in the loss."""
        return 0.0

    def score_weights(self, mask_BT: torch.Tensor, other_mask_BT: torch.Tensor) -> torch.Tensor:
        """Pairs and labels: weights (B, T) that make a sequence's score of its token log-probabilities.

        1 for the plain sum. They may look at the pair's other side, at nothing else: reference scores
        are computed once per pair and kept.
        """
        return mask_BT.float()

    def token_weights(self, batch: Any) -> torch.Tensor | None:
        """Per-token weights (N, T) of the whole optimizer batch: mask and normaliser folded into one.

        Computed once per optimizer step; micro-batches then only sum, so that the gradient does not
        depend on how the batch was split. For pairs they belong to the chosen answers' NLL term;
        None where no token is weighed.
        """
        return None

    def term_weights(self, batch: Any) -> Mapping[str, torch.Tensor]:
        """Weights (N, T) by name, for terms of the loss that are not weighed as `token_weights` says.

        Computed beside `token_weights`, cut into micro-batches the same way.
        """
        return {}

    @abstractmethod
    def loss(self, batch: Any) -> Loss:
        """The summed, weighted loss of a micro-batch (`batch.weight_BT` carries the normaliser)."""


@dataclass(frozen=True)
class Outcomes:
    """What the answers of a rollout batch earned: all that an advantage may look at. N answers, T tokens."""

    reward_N: torch.Tensor
    """Weighted sum of the rewards, float32; NaN = not scorable."""
    group_N: torch.Tensor
    """Integer id of the prompt's group; rows may come in any order."""
    mask_NT: torch.Tensor
    """bool: answer tokens, the end token included."""
    parts_NK: torch.Tensor | None = None
    """The scores of each reward, unweighted; NaN = not scorable."""
    part_weight_K: torch.Tensor | None = None
    penalty_NT: torch.Tensor | None = None
    """KL penalty of each token where KL is in the reward, its coefficient included."""
    greedy_N: torch.Tensor | None = None
    """Reward of the greedy answer to the same prompt (`needs` "greedy")."""
    value_NT: torch.Tensor | None = None
    """The critic's value before each token (`needs` "critic")."""

    @property
    def total_N(self) -> torch.Tensor:
        """Reward less the KL penalty summed over the answer (N,)."""
        if self.penalty_NT is None:
            return self.reward_N
        return self.reward_N - self.penalty_NT.masked_fill(~self.mask_NT, 0.0).sum(-1)


class Advantage(Method):
    """From the rewards of a rollout batch to one advantage per answer, or per token."""

    needs: ClassVar[frozenset[Need]] = frozenset({"group"})
    """"group": several answers of one prompt; "greedy"; "critic"."""
    formula: ClassVar[str] = ""

    def objection(self, group_size: int) -> str:
        """Why these knobs cannot work on groups of that size, as `knob: sentence`; "" when they can."""
        return ""

    @abstractmethod
    def advantages(self, outcomes: Outcomes) -> torch.Tensor:
        """Advantages (N,), or (N, T) where tokens differ; 0 where masked out.

        A group of one, an all-equal group and an unscorable answer get 0, where groups are compared.
        """

    def returns(self, outcomes: Outcomes) -> torch.Tensor | None:
        """What the critic should have predicted (N, T); None without a critic."""
        return None


class Unscorable(ValueError):
    """Why an answer cannot be scored: raised by `Reward.score`, or given in the place of a score.

    Training leaves the answer out of its means; an evaluation that keeps every answer tells the reason.
    """


class Unavailable(ConnectionError):
    """A service that scoring needs is gone: the run ends, and goes on there when it is resumed."""


@dataclass(frozen=True)
class Answer:
    """One sampled answer, as a reward sees it."""

    prompt: str
    text: str
    tokens: int
    finish_reason: Literal["stop", "length"]
    row: Mapping[str, Any] = field(default_factory=dict)
    """The data row of the prompt: `answer` and every other column."""
    prompt_ids: Sequence[int] = ()
    """The tokens that the policy read and, in `token_ids`, those it wrote; empty where nobody knows."""
    token_ids: Sequence[int] = ()
    vocabulary: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)
    """Token -> id: what those ids mean. One object for all answers of a policy."""
    read: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False, compare=False)
    """Column -> log-probability of each token of its text, the end token included, had the policy been made to
    answer with it (temperature 1, nothing left out): of the columns that `Reward.reads` names."""
    choices: Sequence[tuple[float, bool]] = field(default=(), repr=False, compare=False)
    """Of a row with choices (`_choices`), or one text to weigh: the log-likelihood of each behind the prompt,
    and whether each of its tokens is the likeliest one."""


class Reward(Method):
    """Scores an answer. Runs on nodes only, on the CPU."""

    name: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9_.-]*$")
    """Name in the metrics (`rewards/NAME/mean`); empty means the method's own name."""
    weight: float = Field(1.0, json_schema_extra={**BASIC, "live": True})
    """Factor of this part in the total reward. Healthy: 0.1 to 1; negative makes it a penalty."""
    exact: ClassVar[bool] = False
    """True when a score of 1 means that the answer is right: evaluation reports it as accuracy."""
    at_once: ClassVar[int] = 1
    """How many answers `scores` takes; a run can be stopped between two calls."""
    time_limit: ClassVar[float] = 300.0
    """Seconds after which a call of `scores` counts as hung, and ends the run."""
    better: ClassVar[Literal["higher", "lower", ""]] = "higher"
    """Which scores are better; "" where neither is."""

    @property
    def label(self) -> str:
        """The name used in metrics."""
        return self.name or str(getattr(self, "type", ""))

    @property
    def reads(self) -> str:
        """The column whose text the policy reads as if it were the answer (`Answer.read`); "" for none.

        Such a score says something of the policy, whatever was sampled: evaluations only can use it.
        """
        return ""

    def prepare(self) -> None:
        """Load what scoring needs, before the run begins. Raises ValueError that says what to change."""

    @abstractmethod
    def score(self, answer: Answer) -> float | None:
        """The score, or None when this answer cannot be scored (it is then left out of the means).

        Raises Unscorable instead of None where it can tell why.
        """

    def scores(self, answers: Sequence[Answer]) -> Sequence[float | Unscorable | None]:
        """The scores of at most `at_once` answers: for rewards whose batches cost less than their parts."""
        found: list[float | Unscorable | None] = []
        for answer in answers:
            try:
                found.append(self.score(answer))
            except Unscorable as reason:
                found.append(reason)
        return found


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

    def peft_config(self) -> Any:
        """What peft puts into the model, as its own configuration; None to train every weight."""
        return None


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


class Diagnostic(Method):
    """An extra series that explains a run."""
