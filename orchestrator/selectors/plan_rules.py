"""What to change about a run whose time goes where it should not: thresholds, sources, and one field each.

A rule is a pure function of the facts. It names a field of the spec, or it says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVALUATION_SHARE = 0.20
CHECKPOINT_SHARE = 0.10
ROLLOUT_SHARE = 0.50
UPDATE_SHARE = 0.50
PADDING = 0.30
MICRO_BATCHES = 8
MEMORY_LEFT = 0.40
REWARD_SHARE = 0.30
LOGPROB_SHARE = 0.25
BETA_SMALL = 0.01
SYNC_SHARE = 0.15
WAIT_SHARE = 0.30

OWN = "this project's own threshold"


@dataclass(frozen=True)
class Facts:
    """What the rules may look at."""

    path: Mapping[str, float]
    """Share of the critical path by phase."""
    waits: Mapping[str, float] = field(default_factory=dict)
    """Share of its time that a process waits for another one."""
    learner: str = ""
    """The process of the path."""
    staleness_field: str = ""
    """The spec's bound on how old samples may be; "" where it has none."""
    staleness: float = 0
    engine: str = "native"
    gpu: bool = False
    node_engines: frozenset[str] = frozenset()
    """What its node could sample with."""
    packing: str = "rows"
    padding: float | None = None
    """Share of the trained cells that are padding."""
    micro_batches: float | None = None
    """Forward passes of an optimizer step, about."""
    memory_left: float | None = None
    """Share of the GPU's memory that was never used; None where nobody can tell."""
    rewards: tuple[str, ...] = ()
    beta: float = 0.0
    evaluates: int = 0
    """`evaluation.every_steps`; 0 where it is not done between the steps."""
    saves: int = 0
    """`checkpoint.every_steps`; 0 where none is saved between the steps."""
    background: bool = True

    def share(self, phase: str) -> float:
        """Of the critical path."""
        return self.path.get(phase, 0.0)


@dataclass(frozen=True)
class Suggestion:
    """One change that is worth a try."""

    field: str
    """The path of the spec's field."""
    text: str
    rule: str
    """When it is suggested."""
    source: str


def suggestions(facts: Facts) -> list[Suggestion]:
    """What is worth a change, the largest share of the path first; [] when nothing stands out."""
    found = [(share, one) for rule in RULES for share, one in rule(facts)]
    return [one for _, one in sorted(found, key=lambda pair: -pair[0])]


Found = list[tuple[float, Suggestion]]


def _evaluation(facts: Facts) -> Found:
    share = facts.share("eval")
    if share <= EVALUATION_SHARE or not facts.evaluates:
        return []
    text = (
        f"Evaluation takes {_percent(share)} of the time: raise evaluation.every_steps "
        f"({facts.evaluates} now)."
    )
    rule = f"evaluation above {_percent(EVALUATION_SHARE)}"
    return [(share, Suggestion("evaluation.every_steps", text, rule, OWN))]


def _checkpoint(facts: Facts) -> Found:
    share = facts.share("checkpoint")
    if share <= CHECKPOINT_SHARE:
        return []
    rule = f"checkpoints above {_percent(CHECKPOINT_SHARE)}"
    if not facts.background:
        text = (
            f"Training waits {_percent(share)} of the time for the disk: set checkpoint.background, "
            "then a thread writes while training goes on."
        )
        source = "CheckFreq, FAST 2021: a snapshot in memory is written beside training"
        return [(share, Suggestion("checkpoint.background", text, rule, source))]
    if not facts.saves:
        return []
    text = (
        f"Checkpoints take {_percent(share)} of the time: raise checkpoint.every_steps "
        f"({facts.saves} now)."
    )
    source = "Young 1974: save more seldom, the dearer a save is against what a failure loses"
    return [(share, Suggestion("checkpoint.every_steps", text, rule, source))]


def _engine(facts: Facts) -> Found:
    share = facts.share("rollout")
    can = facts.gpu and facts.engine == "native" and "vllm" in facts.node_engines
    if share < ROLLOUT_SHARE or not can:
        return []
    text = (
        f"Rollouts take {_percent(share)} of the time with the native engine, on a GPU node that has vLLM: "
        "set rollout.engine to vllm."
    )
    rule = f"rollouts from {_percent(ROLLOUT_SHARE)} on, native engine, a GPU, vLLM on the node"
    source = "vLLM, arXiv 2309.06180: 2 to 4 times the throughput by paged, continuous batches"
    return [(share, Suggestion("rollout.engine", text, rule, source))]


def _update(facts: Facts) -> Found:
    share = facts.share("update")
    if share < UPDATE_SHARE:
        return []
    if facts.padding is not None and facts.padding > PADDING:
        return [(share, _padding(share, facts))]
    room = facts.memory_left is not None and facts.memory_left >= MEMORY_LEFT
    many = facts.micro_batches is not None and facts.micro_batches >= MICRO_BATCHES
    if not (facts.gpu and room and many):
        return []
    assert facts.micro_batches is not None and facts.memory_left is not None
    text = (
        f"Updates take {_percent(share)} of the time in about {facts.micro_batches:.0f} micro-batches, and "
        f"{_percent(facts.memory_left)} of the GPU's memory was never used: raise batch.tokens_per_microbatch."
    )
    rule = (
        f"updates from {_percent(UPDATE_SHARE)} on, {MICRO_BATCHES} micro-batches or more, "
        f"{_percent(MEMORY_LEFT)} of the memory unused"
    )
    return [(share, Suggestion("batch.tokens_per_microbatch", text, rule, OWN))]


def _padding(share: float, facts: Facts) -> Suggestion:
    assert facts.padding is not None
    head = (
        f"Updates take {_percent(share)} of the time, and {_percent(facts.padding)} of their cells are "
        "padding: "
    )
    rule = f"updates from {_percent(UPDATE_SHARE)} on, padding above {_percent(PADDING)}"
    source = "Krell et al., arXiv 2107.02027: packing removes padding"
    if facts.packing != "rows":
        text = head + "set batch.packing to rows."
        return Suggestion("batch.packing", text, rule, source)
    text = head + "raise batch.tokens_per_microbatch, so that rows find room beside each other."
    return Suggestion("batch.tokens_per_microbatch", text, rule, source)


def _reward(facts: Facts) -> Found:
    share = facts.share("reward")
    if share < REWARD_SHARE or not facts.rewards:
        return []
    names = ", ".join(dict.fromkeys(facts.rewards))
    text = (
        f"Scoring takes {_percent(share)} of the time: look among rewards ({names}) for one that is slow or "
        "runs into its time limit, and replace it by a cheaper one."
    )
    rule = f"rewards from {_percent(REWARD_SHARE)} on"
    return [(share, Suggestion("rewards", text, rule, OWN))]


def _logprob(facts: Facts) -> Found:
    share = facts.share("logprob")
    if share < LOGPROB_SHARE or not 0 < facts.beta <= BETA_SMALL:
        return []
    text = (
        f"The reference's log-probabilities take {_percent(share)} of the time, and their weight is only "
        f"{facts.beta:g}: with objective.beta at 0 they are not needed. It changes what is learned."
    )
    rule = (
        f"log-probabilities from {_percent(LOGPROB_SHARE)} on, objective.beta up to {BETA_SMALL:g}"
    )
    source = "DAPO, arXiv 2503.14476, trains without the KL term"
    return [(share, Suggestion("objective.beta", text, rule, source))]


def _sync(facts: Facts) -> Found:
    share = facts.share("sync")
    if share <= SYNC_SHARE or facts.engine == "native":
        return []
    text = (
        f"Handing weights to the sampler takes {_percent(share)} of the time, once a step: raise "
        "batch.prompts_per_step, so that it is needed more seldom for the same answers."
    )
    rule = f"weight sync above {_percent(SYNC_SHARE)}, an engine with a copy of the weights"
    return [(share, Suggestion("batch.prompts_per_step", text, rule, OWN))]


def _waits(facts: Facts) -> Found:
    """One process waits for another: the bound on staleness is what they share."""
    if not facts.waits or not facts.staleness_field:
        return []
    # Where the learner waits, those that it waits for are held back by the same bound, if they wait as well.
    learner = facts.waits.get(facts.learner, 0.0)
    name = max(facts.waits, key=lambda process: facts.waits[process])
    name = facts.learner if learner > WAIT_SHARE else name
    share, bound = facts.waits[name], f"{facts.staleness_field} ({facts.staleness:g} now)"
    if share <= WAIT_SHARE:
        return []
    if name == facts.learner:
        text = (
            f"The process {name} waits {_percent(share)} of its time for samples: raise {bound}, so that sampling "
            "runs further ahead, or split off more of the machine for it."
        )
    elif not facts.staleness:
        text = (
            f"The process {name} waits {_percent(share)} of its time, while the trainer learns: raise {bound}, so "
            "that both work at once, or sample in the trainer's process (colocate)."
        )
    else:
        text = (
            f"The process {name} waits {_percent(share)} of its time, so sampling is faster than training here: "
            f"lower {bound}; at 0 both may share one device (colocate)."
        )
    rule = f"a process waits above {_percent(WAIT_SHARE)} of its time"
    source = "AReaL, arXiv 2505.24298: staleness is bought to keep both sides busy"
    return [(share, Suggestion(facts.staleness_field, text, rule, source))]


RULES: tuple[Callable[[Facts], Found], ...] = (
    _evaluation,
    _checkpoint,
    _engine,
    _update,
    _reward,
    _logprob,
    _sync,
    _waits,
)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
