"""RunSpec: the form, the REST body, the recipe file, the command line's input and the node's order.

Families are unions over the registry, so a method's file is all it takes to extend the spec.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from trainer import registry
from trainer.contradictions import contradictions
from trainer.correction import Correction
from trainer.evaluation import Evaluation
from trainer.methods import BASIC
from trainer.named_models import CHECKPOINT_PREFIX, EXTERNAL_PREFIX, RUN_PREFIX
from trainer.play import Play
from trainer.problems import Problem, SpecError, problems_of, under
from trainer.rollout import Rollout
from trainer.section import Section

if TYPE_CHECKING:
    from trainer.methods import (
        Adapter as AnyAdapter,
    )
    from trainer.methods import (
        Advantage as AnyAdvantage,
    )
    from trainer.methods import (
        Curriculum as AnyCurriculum,
    )
    from trainer.methods import (
        Guidance as AnyGuidance,
    )
    from trainer.methods import (
        Objective as AnyObjective,
    )
    from trainer.methods import (
        Optimizer as AnyOptimizer,
    )
    from trainer.methods import (
        Reward as AnyReward,
    )
    from trainer.methods import (
        Schedule as AnySchedule,
    )
    from trainer.methods import (
        Transform as AnyTransform,
    )
else:
    AnyObjective = registry.union("objectives")
    AnyAdvantage = registry.union("advantages")
    AnyReward = registry.union("rewards")
    AnyCurriculum = registry.union("curricula")
    AnyGuidance = registry.union("guidance")
    AnyOptimizer = registry.union("optimizers")
    AnyAdapter = registry.union("adapters")
    AnySchedule = registry.union("schedules")
    AnyTransform = registry.union("data", registry.Transform)

__all__ = [
    "CHECKPOINT_PREFIX",
    "EXTERNAL_PREFIX",
    "RUN_PREFIX",
    "DataSource",
    "Problem",
    "RunSpec",
    "Section",
    "SpecError",
    "problems_of",
    "spec_hash",
    "spec_parse",
    "with_default_advantage",
]


class Model(Section):
    """The model that is trained."""

    name: str = Field("starter", min_length=1, json_schema_extra=BASIC)
    """`starter` (a tiny Llama with a character tokenizer, made on the spot), a local folder, a hub id,
    `checkpoint:ID`, `external:ID` (a model that was registered), or `run:ID` (waits for that run's final
    checkpoint)."""
    warm_start: str = ""
    """A recipe (name or file) that the trainer runs first in the same directory, as phase "warm-up".
    Budget overrides do not touch it."""
    revision: str = ""
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the forward and backward pass; weights and optimizer stay float32. `auto` is float32 on
    a CPU and bfloat16 on a GPU that has it; the effective spec names what it became."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for models whose code you have read."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Shape of a model made on the spot (`hidden_size`, `layers`, `heads`, `tokenizer` = "characters" or
    "bpe", `vocab_size`): read by `starter` alone."""


class Reference(Section):
    """The model that losses compare with."""

    name: str = ""
    """A model name as above; empty means the start model."""
    sync_every: int = Field(0, ge=0)
    """Optimizer steps after which the reference is pulled towards the policy; 0 keeps it frozen.
    Unit: steps. Healthy: 0; 64 to 512. Source: TR-DPO, arXiv 2404.09656 (TRL: ref_model_sync_steps)."""
    sync_mix: float = Field(0.6, gt=0, le=1)
    """Share of the policy in the new reference; 1 replaces it. Healthy: 0.6 with a sync every 512 steps.
    Source: arXiv 2404.09656 (TRL: ref_model_mixup_alpha)."""


class DataSource(Section):
    """One source of rows."""

    source: str = Field("arithmetic", min_length=1, json_schema_extra=BASIC)
    """A built-in source, a dataset id, a file (JSONL, JSON, CSV, Parquet; plain or .gz) or a hub id."""
    weight: float = Field(1.0, gt=0)
    """Share of this source in the mix, relative to the others."""
    split: str = "train"
    """Which part of the source: "train" or "test"."""
    limit: int = Field(0, ge=0, json_schema_extra=BASIC)
    """At most so many rows; 0 takes all. Unit: rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Renames columns: file's name = ours, for example `question = "prompt"`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Knobs of a built-in source, for example `noise = 0.6` of `noisy-sort`."""
    transform: AnyTransform | None = None
    """Turns the rows into other rows, for example graded solutions into preference pairs."""
    split_by: str = ""
    """A column by whose value rows are divided into train and test, so that no value is on both sides.
    Empty: the file is taken whole."""
    holdout: float = Field(0.0, ge=0, lt=1)
    """Share of the values of `split_by` that belong to the test split. Healthy: 0.1 to 0.3."""
    split_seed: int = Field(0, ge=0)
    """Seed of that division."""

    @model_validator(mode="after")
    def _options_fit_the_source(self) -> Self:
        sources = registry.family("data")
        method = sources.get(self.source)
        if method is not None and issubclass(method, registry.Source):
            try:
                method.model_validate({**self.options, "type": self.source})
            except ValidationError as error:
                raise under("options", error) from error
        elif self.options:
            raise ValueError(f"options belong to built-in sources; '{self.source}' is not one")
        if bool(self.split_by) != (self.holdout > 0):
            raise ValueError("split_by and holdout go together: set both or neither")
        return self


class Data(Section):
    """What is trained on and what is evaluated on."""

    train: tuple[DataSource, ...] = Field((DataSource(),), min_length=1, json_schema_extra=BASIC)
    """Sources of training rows, mixed by weight."""
    eval: tuple[DataSource, ...] = Field((), json_schema_extra=BASIC)
    """Sources of held-out rows; empty turns evaluation off."""
    max_prompt_tokens: int = Field(512, ge=1)
    """Longest prompt. Unit: tokens."""
    max_tokens: int = Field(1024, ge=2)
    """Longest prompt plus answer in training rows. Unit: tokens."""
    train_on: Literal["answer", "assistant"] = "answer"
    """Which tokens of a demonstrated conversation are trained on: `answer` takes its last message,
    `assistant` every message of the assistant, end-of-turn tokens included, and nothing of the others.
    It differs only where conversations have several turns."""
    overlong: Literal["drop", "truncate", "error"] = "drop"
    """What happens to a row over the limits: dropped and counted, cut at the end, or an error."""


class Batch(Section):
    """How much goes into one optimizer step."""

    prompts_per_step: int = Field(16, ge=1, json_schema_extra=BASIC)
    """Prompts, pairs or rows in one optimizer step. Healthy: 16 to 512."""
    updates_per_rollout: int = Field(1, ge=1, le=16)
    """Passes over each batch of answers (TRL: num_iterations). Healthy: 1 to 4."""
    minibatches: int = Field(1, ge=1, le=1024)
    """Optimizer steps of one pass: the prompts of a batch are divided into so many parts, whole groups each,
    in an order of the pass's own (TRL: steps_per_generation; PPO's minibatches). Healthy: 1; 2 to 8 where
    sampling is dear. Source: arXiv 1707.06347, algorithm 1."""
    tokens_per_microbatch: int = Field(16384, ge=1)
    """Upper bound of padded tokens in one forward pass; changes memory and speed, never the gradient.
    Unit: tokens."""
    packing: Literal["none", "rows"] = "rows"
    """`rows` lets short sequences share the row of a long one, each behind a mask of its own, where
    padding would stand; `none` gives each prompt its row. Changes memory and speed, never the gradient."""


class Budget(Section):
    """When the run ends; 0 turns a limit off, the first limit reached ends it."""

    max_steps: int = Field(200, ge=0, json_schema_extra={**BASIC, "live": True})
    """Optimizer steps. Unit: steps."""
    max_epochs: float = Field(0, ge=0)
    """Passes over the training rows. Unit: epochs."""
    max_minutes: float = Field(0, ge=0, json_schema_extra={"live": True})
    """Wall time of training, warm-up included; a schedule that falls needs steps or epochs beside it.
    Unit: minutes."""

    @model_validator(mode="after")
    def _some_limit(self) -> Self:
        if not (self.max_steps or self.max_epochs or self.max_minutes):
            raise ValueError("the run would never end: set max_steps, max_epochs or max_minutes")
        return self


class CheckpointPolicy(Section):
    """When weights are saved, and which are kept. The final one always is."""

    every_steps: int = Field(50, ge=0, json_schema_extra={**BASIC, "live": True})
    """Steps between checkpoints; 0 saves the final one only. Unit: steps."""
    keep_last: int = Field(2, ge=1)
    """The newest ones that are kept."""
    keep_best: int = Field(1, ge=0)
    """The best ones that are kept besides, by `best_metric`."""
    keep_every: int = Field(0, ge=0)
    """Checkpoints whose step is a multiple of this stay for good; 0 turns that off. Unit: steps."""
    background: bool = True
    """Write in a thread while training goes on; else training waits for the disk. Either way the same
    bytes are written. Healthy: on, unless memory for a second copy of weights and optimizer is short."""
    best_metric: str = ""
    """Which metric decides; empty: `eval/reward` online, `eval/pair_accuracy` for pairs,
    `eval/loss` for all others. A name that ends in "loss" is better when lower."""


class Resources(Section):
    """What the run needs from a node."""

    gpus: int | Literal["auto"] = "auto"
    """Graphics processors on each machine; `auto` takes one where the node has one, else none. Above 1 the
    run trains with one process per GPU, which share each batch by whole prompts. Healthy: auto."""
    processes: int = Field(0, ge=0, le=64)
    """Training processes; 0 starts one per GPU, and one on a CPU. A number above 1 is for a CPU
    (`gpus = 0`), where each has `cpus` threads (torchrun: nproc-per-node). Changes speed, never the
    gradient. Healthy: 0. Unit: processes."""
    sharding: Literal["none", "full"] = "none"
    """What each of several processes holds of the model: `none` a copy, `full` a part of weights, gradients and
    optimizer, each layer gathered when it is needed (torch's fully_shard). Healthy: none where a copy fits."""
    cpus: int = Field(1, ge=1)
    """Threads of the trainer on a CPU. Healthy: 1 for tiny models. Unit: threads."""
    min_vram_gb: float = Field(0, ge=0)
    """Memory that each GPU must have. Unit: GiB."""
    nodes: int = Field(1, ge=1, le=64)
    """Machines at the same time, all or none; `gpus`, `processes` and `cpus` are those of each. A server launches
    such a run, and the machines must reach each other (ANNEAL_NODE_ADDRESS). Healthy: 1. Unit: machines."""
    labels: tuple[str, ...] = ()
    """Labels that the node must carry."""

    @field_validator("gpus")
    @classmethod
    def _gpus_are_a_number(cls, value: int | str) -> int | str:
        if isinstance(value, int) and not 0 <= value <= 64:
            raise ValueError('must be from 0 to 64, or "auto"')
        return value

    @property
    def local(self) -> int:
        """Training processes on each machine."""
        return self.processes or (self.gpus if isinstance(self.gpus, int) else 1) or 1

    @property
    def world(self) -> int:
        """Training processes on all machines."""
        return self.nodes * self.local


def with_default_advantage(value: Any) -> Any:
    """Raw spec data with the advantage that its online objective gets when none is named."""
    if not isinstance(value, dict) or value.get("advantage") is not None:
        return value
    objective = value.get("objective") or {"type": "grpo"}
    tag = objective.get("type") if isinstance(objective, dict) else getattr(objective, "type", "")
    method = registry.family("objectives").get(str(tag))
    if method is not None and getattr(method, "learns_from", "") == "rollouts":
        return {**value, "advantage": {"type": getattr(method, "default_advantage", "")}}
    return value


class RunSpec(Section):
    """One post-training run."""

    kind: Literal["train", "evaluate", "play"] = "train"
    """`train` trains and evaluates; `evaluate` measures the model on `data.eval` and stops; `play` answers prompts
    with the models of `play` until it is stopped."""
    name: str = Field("", max_length=120, json_schema_extra=BASIC)
    """What people call the run."""
    seed: int = Field(0, ge=0, lt=2**31, json_schema_extra=BASIC)
    """Seed of data order, sampling and new weights."""
    model: Model = Model()
    reference: Reference = Reference()
    adapter: AnyAdapter = Field(default_factory=lambda: _method("adapters", "none"))
    data: Data = Data()
    objective: AnyObjective = Field(default_factory=lambda: _method("objectives", "grpo"))
    advantage: AnyAdvantage | None = None
    """Online objectives only; left out, it is what the objective's authors used (`group-mean-std`; `gae` for
    PPO)."""
    rewards: tuple[AnyReward, ...] = ()
    """Parts of the reward. Online objectives need one; others use them to grade sampled answers at
    evaluation."""
    rollout: Rollout = Rollout()
    correction: Correction = Correction()
    curriculum: AnyCurriculum = Field(default_factory=lambda: _method("curricula", "shuffled"))
    guidance: AnyGuidance = Field(default_factory=lambda: _method("guidance", "none"))
    optimizer: AnyOptimizer = Field(default_factory=lambda: _method("optimizers", "adamw"))
    schedule: AnySchedule = Field(default_factory=lambda: _method("schedules", "constant"))
    batch: Batch = Batch()
    budget: Budget = Budget()
    evaluation: Evaluation = Evaluation()
    checkpoint: CheckpointPolicy = CheckpointPolicy()
    resources: Resources = Resources()
    play: Play = Play()
    diagnostics: tuple[str, ...] = ()
    """Extra series; none are shipped yet."""

    @property
    def online(self) -> bool:
        """Whether the objective learns from answers that the policy samples."""
        return self.objective.learns_from == "rollouts"

    @property
    def makes_good(self) -> Correction:
        """The correction, with `auto` as what it becomes."""
        return self.correction.resolved(self.rollout.max_staleness)

    @property
    def waits_for(self) -> str:
        """The run whose final checkpoint the model comes from, or ""."""
        name = self.model.name
        return name.removeprefix(RUN_PREFIX) if name.startswith(RUN_PREFIX) else ""

    @model_validator(mode="before")
    @classmethod
    def _with_advantage(cls, value: Any) -> Any:
        return with_default_advantage(value)

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Self:
        problems = contradictions(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self


def _method(family: str, tag: str) -> Any:
    return registry.family(family)[tag](type=tag)  # type: ignore[call-arg]


def spec_parse(raw: Any) -> RunSpec:
    """A RunSpec from plain data. Raises SpecError with one problem per faulty field."""
    try:
        return RunSpec.model_validate(raw)
    except ValidationError as error:
        raise SpecError(problems_of(error)) from error


def spec_hash(spec: RunSpec | dict[str, Any]) -> str:
    """SHA-256 of the sorted compact JSON of a spec."""
    data = spec.model_dump(mode="json") if isinstance(spec, RunSpec) else spec
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
