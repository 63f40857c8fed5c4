"""One optimizer step from summed micro-batch losses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from trainer.engine.ranks import ALONE
from trainer.engine.sharding import full, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trainer.engine.means import Means
    from trainer.engine.policy import Policy
    from trainer.engine.ranks import Ranks
    from trainer.methods import Loss


class Diverged(Exception):
    """The loss or the gradient is not a number; the weights are still those of the step before."""


def optimizer_step(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    losses: Iterable[Loss],
    means: Means,
    *,
    lr: float,
    max_grad_norm: float,
    tick: Callable[[], None],
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Sum the gradients of the micro-batches of all ranks, clip, step. Returns loss, grad_norm and learning_rate.

    Raises Diverged, with the values as its argument, before the weights are touched.
    """
    parameters = [parameter for _, parameter in policy.parameters()]
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for loss in losses:
        if loss.value.requires_grad:
            loss.value.backward()
        total += float(loss.value.detach())
        means.add_loss(loss)
        tick()
    total = means.over(ranks, total)
    if ranks.sharded:
        settle(policy)
    else:
        ranks.add_gradients(parameters)
    if all(parameter.grad is None for parameter in parameters):
        # Every token was silent: the moments still decay, as they would with a gradient of zero.
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
    norm = full(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm or math.inf))
    values = {"loss": total, "grad_norm": float(norm), "learning_rate": lr}
    if not (math.isfinite(total) and math.isfinite(values["grad_norm"])):
        optimizer.zero_grad(set_to_none=True)
        raise Diverged(values)
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.step()
    policy.version += 1
    optimizer.zero_grad(set_to_none=True)
    return values
