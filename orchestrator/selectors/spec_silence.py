"""Which parts of the form have nothing to say, and why: by what a method declares, never by its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.selectors.spec_schema import objective_of

if TYPE_CHECKING:
    from trainer.catalog import Entry

_SAMPLING = ("samples_per_prompt", "temperature", "max_new_tokens", "top_p", "top_k", "min_p")
_OF_EVALUATIONS = ("evaluation.answers", "evaluation.readings", "evaluation.judge")
_WITHOUT_ROLLOUTS = ("batch.updates_per_rollout", "batch.minibatches")
_TRUNCATION = ("rollout.top_p", "rollout.top_k", "rollout.min_p")
_OF_ANSWERS = ("rewards", "adapter", "rollout", *(f"evaluation.{name}" for name in _SAMPLING))
_TRAINING = frozenset(
    {"objective", "advantage", "optimizer", "schedule", "batch", "budget", "checkpoint",
     "curriculum", "data.train", "guidance", "adapter", "reference", "correction"}
)  # fmt: skip

_OF_PLAYGROUNDS = ("model.dtype", "model.trust_remote_code", "batch.tokens_per_microbatch")
"""What counts in a playground beside its own part, its name and its resources."""


@dataclass(frozen=True)
class Facts:
    """What decides whether a part of the spec matters."""

    kind: str
    objective: Entry | None
    rewards: bool
    held_out: bool

    @property
    def online(self) -> bool:
        """Whether training samples answers."""
        return self.objective is None or self.objective.learns_from == "rollouts"

    @property
    def scores(self) -> bool:
        """Whether a reward model is trained: it writes no answers."""
        return self.objective is not None and "score-head" in self.objective.needs

    @property
    def name(self) -> str:
        """The objective as people write it."""
        return self.objective.title if self.objective else "the objective"


def facts_of(raw: dict[str, Any]) -> Facts:
    """The facts of a draft."""
    data = raw.get("data")
    return Facts(
        kind=str(raw.get("kind") or "train"),
        objective=objective_of(raw),
        rewards=bool(raw.get("rewards")),
        held_out=bool(data.get("eval")) if isinstance(data, dict) else False,
    )


def silence(path: str, facts: Facts) -> str:
    """Why the part at `path` has no effect, as a sentence; "" when it has one."""
    if facts.kind == "play":
        return _of_playground(path)
    if path == "play":
        return "Only a run of kind play loads these."
    if facts.kind == "evaluate":
        return "An evaluation trains nothing." if path in _TRAINING else ""
    if path in _OF_EVALUATIONS:
        return "Only a run of kind evaluate does this."
    learns = facts.objective.learns_from if facts.objective else ""
    if path in _OF_ANSWERS and facts.scores:
        if path == "adapter":
            return f"{facts.name} trains the whole model and its score head."
        return f"{facts.name} trains a reward model, which writes no answers."
    if path == "advantage" and not facts.online:
        return f"{facts.name} learns from {learns}: there are no sampled answers to compare."
    if path == "correction" and not facts.online:
        return (
            f"{facts.name} learns from {learns}: no sampler that could be another than the trainer."
        )
    if path == "guidance" and not facts.online:
        return f"{facts.name} samples nothing while it trains, so there is nothing to guide."
    if path == "rollout" and not facts.online and not (facts.rewards and facts.held_out):
        return (
            f"{facts.name} learns from {learns} and samples nothing. "
            "With a reward and held-out data, evaluation samples answers and these settings count."
        )
    if path in _WITHOUT_ROLLOUTS and not facts.online:
        return f"{facts.name} has no rollouts."
    if path == "data.train_on" and learns != "demonstrations":
        return (
            f"{facts.name} learns from {learns or 'rollouts'}, not from demonstrated conversations."
        )
    if path in _TRUNCATION and not facts.online:
        return "Evaluation has settings of its own for this."
    if path == "reference" and facts.objective and "reference" not in facts.objective.needs:
        return f"{facts.name} compares with no reference model."
    return ""


def refused(facts: Facts) -> list[str]:
    """Paths of what this objective would not take, were it set."""
    found = [] if facts.online else ["advantage", *_WITHOUT_ROLLOUTS, *_TRUNCATION]
    if facts.objective and facts.objective.learns_from != "demonstrations":
        found.append("data.train_on")
    return [*found, *_OF_ANSWERS] if facts.scores else found


def _of_playground(path: str) -> str:
    """Everything that is for training or measuring has no effect in a playground."""
    part = path.partition(".")[0]
    if part in ("name", "kind", "play", "resources") or path in (
        "model",
        "batch",
        *_OF_PLAYGROUNDS,
    ):
        return ""
    return "A playground trains and measures nothing."


def optional_note(path: str, facts: Facts) -> str:
    """What a part is for when the objective does not require it; "" when it does."""
    if path == "rewards" and not facts.online and facts.kind != "evaluate":
        return f"Optional: {facts.name} needs no reward. One here grades sampled answers at evaluation."
    return ""
