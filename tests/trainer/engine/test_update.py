"""One optimizer step: micro-batches are summed, norms clipped and told; a number that is none moves nothing."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from trainer.engine.means import Means
from trainer.engine.update import Diverged, optimizer_step
from trainer.methods import Loss

START = (3.0, 4.0)


@pytest.fixture
def weights():
    return torch.nn.Parameter(torch.tensor(START))


def step(weights, losses, *, optimizer=None, max_grad_norm=0.0, lr=0.5, tick=lambda: None):
    policy = SimpleNamespace(parameters=lambda: [("weights", weights)], version=0)
    optimizer = optimizer or torch.optim.SGD([weights], lr=9.0)
    means = Means()
    values = optimizer_step(
        policy, optimizer, losses, means, lr=lr, max_grad_norm=max_grad_norm, tick=tick
    )
    assert policy.version == 1, "whoever holds a copy of the weights must see that it is old"
    return values, means.values()


def squares(weights, *factors):
    """A loss for each factor, whose gradient is the factor times the weights."""
    for factor in factors:
        yield Loss(factor * (weights**2).sum() / 2, {"factor": (factor, 1.0)})


def test_losses_gradients_and_metrics_of_micro_batches_are_summed(weights):
    ticks = []
    values, means = step(weights, squares(weights, 0.1, 0.3, 0.2), tick=lambda: ticks.append(1))
    assert values["loss"] == pytest.approx(0.6 * 12.5)
    assert values["grad_norm"] == pytest.approx(0.6 * 5)
    assert weights.tolist() == pytest.approx([3 - 0.5 * 0.6 * 3, 4 - 0.5 * 0.6 * 4])
    assert means == {"factor": pytest.approx(0.2)}
    assert len(ticks) == 3 and weights.grad is None


@pytest.mark.parametrize(("most", "norm"), [(1.0, 1.0), (0.25, 0.25), (7.0, 5.0), (0.0, 5.0)])
def test_gradients_are_scaled_down_to_the_norm_and_never_up(weights, most, norm):
    values, _ = step(weights, squares(weights, 1.0), max_grad_norm=most, lr=1.0)
    # What is told is the norm before.
    assert values["grad_norm"] == pytest.approx(5)
    assert values["learning_rate"] == 1.0
    moved = torch.tensor(START) - weights.detach()
    assert float(moved.norm()) == pytest.approx(norm, rel=1e-5)
    assert moved.tolist() == pytest.approx([norm * 0.6, norm * 0.8], rel=1e-5)


def test_the_norm_is_that_of_the_sum_and_not_of_each_micro_batch(weights):
    """Two halves that cancel but for a little: clipped one by one they would not."""
    values, _ = step(weights, squares(weights, 10.0, -9.9), max_grad_norm=1.0, lr=1.0)
    assert values["grad_norm"] == pytest.approx(0.5, rel=1e-4)
    assert weights.tolist() == pytest.approx([2.7, 3.6], rel=1e-4)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_number_that_is_none_is_told_before_a_weight_moves(weights, what):
    def spoiled():
        yield from squares(weights, 0.5)
        if what == "loss":
            yield Loss(weights.sum() * math.inf)
        else:
            # 0 in value, infinite in slope.
            yield Loss((weights - weights.detach()).abs().sqrt().sum())

    with pytest.raises(Diverged) as caught:
        step(weights, spoiled(), max_grad_norm=1.0)
    (values,) = caught.value.args
    assert not math.isfinite(values["loss"] if what == "loss" else values["grad_norm"])
    assert math.isfinite(values["loss"]) == (what == "gradient")
    assert tuple(weights.tolist()) == START and weights.grad is None


def test_a_step_without_a_gradient_is_a_step_with_gradient_0(weights):
    optimizer = torch.optim.AdamW([weights], lr=1.0, weight_decay=0.0)
    step(weights, squares(weights, 1.0), optimizer=optimizer, lr=0.1)
    held = optimizer.state[weights]
    before, moved = held["exp_avg"].clone(), weights.detach().clone()
    values, _ = step(weights, iter([Loss(torch.zeros(()))]), optimizer=optimizer, lr=0.1)
    assert values["loss"] == values["grad_norm"] == 0.0
    assert int(held["step"]) == 2 and torch.allclose(held["exp_avg"], 0.9 * before)
    assert not torch.equal(weights.detach(), moved)


def test_every_group_of_the_optimizer_gets_the_rate_of_the_step():
    one, other = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [one]}, {"params": [other]}], lr=9.0)
    policy = SimpleNamespace(parameters=lambda: [("one", one), ("other", other)], version=0)
    losses = iter([Loss((one + other).sum())])
    optimizer_step(
        policy, optimizer, losses, Means(), lr=0.25, max_grad_norm=0.0, tick=lambda: None
    )
    assert one.item() == other.item() == 0.75
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]
