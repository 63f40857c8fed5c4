"""What the tests of known bugs share: every objective there is, learners, batches, foreign models.

Nothing here names an objective: one that is dropped in is tested with the others. Legend of shape
suffixes as in `trainer.engine.batches`.
"""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

import torch

from tests.trainer.engine.support import make_policy, nothing, tiny_spec
from trainer import registry
from trainer.engine.batches import Rollouts
from trainer.engine.dataset import Cursor, parts_encode, parts_load
from trainer.engine.job import LEARNERS
from trainer.engine.means import Means
from trainer.engine.reference import Reference
from trainer.engine.state import State
from trainer.engine.update import optimizer_step
from trainer.journal import read_events
from trainer.spec import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.engine.loop import Learner
    from trainer.engine.policy import Policy
    from trainer.engine.session import Session
    from trainer.methods import Loss, Objective


@cache
def objectives(*learns_from: str) -> dict[str, tuple[str, ...]]:
    """Overrides of the tiny spec by name: each objective that the engine trains, each aggregation.

    Only those that learn from `learns_from`, where given. An objective that wants another advantage
    than the default gets the first one that the spec accepts.
    """
    found: dict[str, tuple[str, ...]] = {}
    for tag, method in registry.family("objectives").items():
        kind = method.learns_from  # type: ignore[attr-defined]
        if kind not in LEARNERS or "score-head" in method.needs:  # type: ignore[attr-defined]
            continue
        if learns_from and kind not in learns_from:
            continue
        for choice in _aggregations(method):
            overrides = [f"objective.type={tag}"]
            if choice:
                overrides.append(f"objective.aggregation={choice}")
            found[" ".join(filter(None, (tag, choice)))] = accepted(kind, overrides)
    return found


@cache
def trained(*learns_from: str) -> dict[str, tuple[str, ...]]:
    """The same for tests that run the engine: each aggregation of the spec's own objective only."""
    own, first = tiny_spec().objective.type, {}  # type: ignore[attr-defined]
    for name in objectives(*learns_from):
        tag = name.split()[0]
        first.setdefault(name if tag == own else tag, name)
    return {name: objectives()[name] for name in first.values()}


@cache
def one_of_each() -> dict[str, tuple[str, ...]]:
    """The first objective of each kind of rows."""
    kinds = {
        tiny_spec(*overrides).objective.learns_from: n for n, overrides in objectives().items()
    }
    return {name: objectives()[name] for name in kinds.values()}


def accepted(kind: str, overrides: list[str]) -> tuple[str, ...]:
    """The overrides, with an advantage that fits where the default one does not."""
    tries = [[]]
    if kind == "rollouts":
        tries += [[f"advantage.type={tag}"] for tag in registry.family("advantages")]
    for more in tries:
        try:
            tiny_spec(*overrides, *more)
        except SpecError:
            continue
        return (*overrides, *more)
    raise AssertionError(f"no advantage fits {overrides}")


def _aggregations(method: type[registry.Method]) -> tuple[str, ...]:
    field = method.model_fields.get("aggregation")
    if field is None or get_origin(field.annotation) is not Literal:
        return ("",)
    return get_args(field.annotation)


def built(name: str) -> Objective:
    """The objective of that name."""
    return tiny_spec(*objectives()[name]).objective


def make_learner(
    session: Session, policy: Policy, *overrides: str, reference: Policy | None = None
) -> tuple[Learner, State]:
    """A learner of the tiny spec, and a fresh state. The reference is the policy as it was made."""
    spec = tiny_spec(*overrides)
    kind = spec.objective.learns_from
    parts = parts_load(spec.data.train, seed=0, learns_from=kind, datasets={})
    parts_encode(parts, policy, spec.data, kind)
    cursor = Cursor(parts, spec.curriculum, spec.seed)
    frozen = Reference(partial(make_policy, seed=0) if reference is None else lambda: reference)
    return LEARNERS[kind](session, spec, policy, frozen, cursor), State(visited=cursor.start())


def gathered(
    session: Session, policy: Policy, *overrides: str, nudge: float = 0.0, **options: Any
) -> tuple[Learner, State, Means]:
    """A learner with its first batch in hand; with `nudge` the policy has moved since."""
    learner, state = make_learner(session, policy, *overrides, **options)
    means = Means()
    learner.gather(state, means)
    if nudge:
        nudged(policy, nudge)
    return learner, state, means


def nudged(policy: Policy, size: float, seed: int = 1) -> None:
    """Move every weight a little, as optimizer steps do."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=size)


class Kept(torch.optim.Optimizer):
    """Moves no weight, and keeps the gradient that the step ended with."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        super().__init__(parameters, {"lr": 0.0})
        self.gradients: list[torch.Tensor | None] = []

    def step(self, closure: Any = None) -> None:
        held = [p for group in self.param_groups for p in group["params"]]
        self.gradients = [None if p.grad is None else p.grad.clone() for p in held]


def gradient(
    learner: Learner, state: State, means: Means | None = None
) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Loss, flat gradient and metrics of one optimizer step, the trainer's own, that moves nothing."""
    policy = learner.policy  # type: ignore[attr-defined]
    parameters = list(policy.model.parameters())
    kept, means = Kept(parameters), means or Means()
    values = optimizer_step(
        policy, kept, learner.losses(state, means), means, lr=0.0, max_grad_norm=0.0, tick=nothing
    )
    for parameter, grad in zip(parameters, kept.gradients, strict=True):
        parameter.grad = grad
    pieces = [
        (torch.zeros_like(p) if grad is None else grad).flatten()
        for p, grad in zip(parameters, kept.gradients, strict=True)
    ]
    return values["loss"], torch.cat(pieces), means.values()


def apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """Relative distance of two gradients."""
    return float((one - two).norm() / two.norm().clamp(min=1e-30))


def rollouts(rows: int = 6, width: int = 5, seed: int = 0) -> Rollouts:
    """Ragged answers in groups of two with everything that an objective may ask for, float64."""
    draw = torch.Generator().manual_seed(seed)

    def noise(scale: float = 1.0) -> torch.Tensor:
        return scale * torch.randn(rows, width, generator=draw, dtype=torch.float64)

    lengths = 1 + torch.arange(rows) % width
    old_logp_BT = -noise().abs() - 0.1
    advantage_B = torch.randn(rows, generator=draw, dtype=torch.float64)
    return Rollouts(
        mask_BT=torch.arange(width)[None, :] < lengths[:, None],
        old_logp_BT=old_logp_BT,
        advantage_BT=advantage_B[:, None].expand(rows, width).clone(),
        group_B=torch.arange(rows) // 2,
        max_new_tokens=width + 1,
        tokens=float(lengths.sum()),
        truncated_B=lengths == width,
        old_entropy_BT=noise().abs(),
        ref_logp_BT=old_logp_BT + noise(0.2),
        logp_BT=old_logp_BT + noise(0.2),
        entropy_BT=noise().abs(),
        value_BT=noise(),
        old_value_BT=noise(),
        return_BT=noise(),
    )


GRADED = ("logp_BT", "entropy_BT", "value_BT")


def dials(objective: Objective) -> dict[str, float]:
    """The coefficients of the first step."""
    return objective.dials({}, {}, 0.0)


def loss_of(objective: Objective, batch: Rollouts) -> tuple[Loss, dict[str, torch.Tensor]]:
    """The loss of a whole optimizer batch, and its gradient for every tensor that may have one."""
    batch = dataclasses.replace(batch, dials=dials(objective))
    bare = dataclasses.replace(
        batch, logp_BT=None, entropy_BT=None, value_BT=None, ref_logp_BT=None
    )
    batch.weight_BT = objective.token_weights(bare)
    batch.term_weight_BT = objective.term_weights(bare)
    if "reference" not in objective.uses:
        batch.ref_logp_BT = None
    leaves = {}
    for name in GRADED:
        leaves[name] = getattr(batch, name).detach().clone().requires_grad_()
        setattr(batch, name, leaves[name])
    loss = objective.loss(batch)
    if loss.value.requires_grad:
        loss.value.backward()
    loss.value = loss.value.detach()
    grads = {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }
    return loss, grads


def picked(batch: Rollouts, index: list[int]) -> Rollouts:
    """Some rows of a batch, in that order; `tokens` counts theirs."""
    changes = {
        field.name: value[index]
        for field in dataclasses.fields(batch)
        if isinstance(value := getattr(batch, field.name), torch.Tensor)
    }
    found = dataclasses.replace(batch, **changes)
    return dataclasses.replace(found, tokens=float(found.mask_BT.sum()))


@dataclasses.dataclass(frozen=True)
class Drawn:
    """One answer of the samples that a run publishes."""

    prompt: list[int]
    tokens: list[int]
    logps: list[float]
    advantage: float
    group: int
    event: dict[str, Any]

    def logits_TV(self, policy: Policy) -> torch.Tensor:
        """Logits of the answer's tokens by the model's own plain forward pass."""
        ids = torch.tensor([self.prompt + self.tokens])
        return policy.model(input_ids=ids, use_cache=False).logits[0, len(self.prompt) - 1 : -1]

    def logp_T(self, policy: Policy, temperature: float = 1.0) -> torch.Tensor:
        """Log-probabilities of the answer's tokens, without a nucleus."""
        logp_TV = (self.logits_TV(policy) / temperature).log_softmax(-1)
        return logp_TV.gather(1, torch.tensor(self.tokens)[:, None])[:, 0]


def sampled_answers(session: Session, policy: Policy, step: int = 1) -> list[Drawn]:
    """The samples that this session has published for a step; at most four groups are."""
    return [
        Drawn(
            policy.tokenizer(event["prompt"])["input_ids"],
            event["token_ids"],
            event["logps"],
            event["advantage"],
            event["group"],
            event,
        )
        for event in read_events(session.attempt.journal("samples"))
        if event["step"] == step
    ]


def gradient_by_hand(
    policy: Policy, answers: list[Drawn], shares: list[torch.Tensor]
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of -sum_i A_i sum_t share_it rho_it at the sampling policy, where rho is 1.

    Plain forward passes of one answer each; nothing of the engine is in it.
    """
    policy.model.zero_grad()
    total = 0.0
    for answer, share_T in zip(answers, shares, strict=True):
        logp_T = answer.logp_T(policy)
        loss = -answer.advantage * (share_T * (logp_T - logp_T.detach()).exp()).sum()
        loss.backward()
        total += float(loss.detach())
    grads = [p.grad.flatten().clone() for p in policy.model.parameters()]
    return total, torch.cat(grads)


def token_mean(answers: list[Drawn]) -> list[torch.Tensor]:
    """Shares of the tokens under token-mean."""
    tokens = sum(len(answer.tokens) for answer in answers)
    return [torch.full((len(answer.tokens),), 1 / tokens) for answer in answers]
