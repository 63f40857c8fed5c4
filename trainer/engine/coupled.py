"""From micro-batches to losses, also where one sequence's loss depends on others (`Objective.couples`).

A loss that is a sum over sequences is differentiated one micro-batch after the other. A coupled loss is
not such a sum: it sorts, or compares with a mean. It is then differentiated in two passes (gradient
caching, arXiv 2101.06983): the log-probabilities of the whole optimizer batch without gradient, the
loss's gradient with respect to them, and then each micro-batch again, whose log-probabilities are
multiplied with that gradient. The result is the gradient of the whole batch for any split; it costs a
second forward pass. The model draws nothing at random in between: it has no dropout while it trains.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from trainer.engine.ranks import ALONE
from trainer.engine.sharding import idle, whole
from trainer.methods import Loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.engine.packing import Row
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.methods import Objective


@dataclass(frozen=True)
class Part:
    """One micro-batch: which members of the optimizer batch, and the rows of their forward pass."""

    members: list[int]
    rows: list[Row]


class Divided(Protocol):
    """An optimizer batch, divided into micro-batches."""

    policy: Policy
    size: int
    """Members: pairs, or answers."""
    parts: Sequence[Part]
    with_gradient: Sequence[str]
    """Fields that carry a gradient to the model."""

    def batch(self, members: Sequence[int]) -> Any:
        """The batch of some members, without what `forward` gives."""

    def forward(self, part: Part) -> dict[str, torch.Tensor]:
        """Fields of the batch that need the policy, (members, width); one width for all parts."""


def losses_of(objective: Objective, divided: Divided, ranks: Ranks = ALONE) -> Iterator[Loss]:
    """The losses to differentiate one after the other; their gradients sum to that of the whole batch.

    Without gradients (evaluation) a coupled objective sees all members of `divided` at once as well. Where ranks
    share a batch, the parts are those of this one.
    """
    rounds = ranks.most(len(divided.parts)) if ranks.sharded else 0
    if objective.couples and (len(divided.parts) > 1 or not ranks.alone):
        yield from _coupled(objective, divided, ranks)
    else:
        for part in divided.parts:
            fields = divided.forward(part)
            yield objective.loss(replace(divided.batch(part.members), **fields))
    if rounds:
        yield from idle(divided.policy, rounds - len(divided.parts))


def _coupled(objective: Objective, divided: Divided, ranks: Ranks) -> Iterator[Loss]:
    with whole(divided.policy, ranks) if ranks.sharded else nullcontext():
        fields = _without_gradient(divided)
    for values in fields.values():
        # Each member was read by one rank; the others have zeros there.
        ranks.add(values)
    leaves = [fields[name].requires_grad_() for name in divided.with_gradient]
    loss = objective.loss(replace(divided.batch(range(divided.size)), **fields))
    if not loss.value.requires_grad:
        if ranks.first:
            yield loss
        return
    gradients = torch.autograd.grad(loss.value, leaves, allow_unused=True, materialize_grads=True)
    if ranks.first:
        # All ranks have computed the same.
        yield replace(loss, value=loss.value.detach())
    for part in divided.parts:
        again = divided.forward(part)
        value = sum(
            (gradient[part.members] * again[name]).sum()
            for name, gradient in zip(divided.with_gradient, gradients, strict=True)
        )
        assert isinstance(value, torch.Tensor)
        # Only the gradient is wanted; the value was measured above.
        yield Loss(value - value.detach())


def _without_gradient(divided: Divided) -> dict[str, torch.Tensor]:
    """What `forward` gives for the members of all parts, in order; zeros for the others."""
    found: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        for part in divided.parts:
            for name, values in divided.forward(part).items():
                if name not in found:
                    found[name] = values.new_zeros(divided.size, *values.shape[1:])
                found[name][part.members] = values
    return found
