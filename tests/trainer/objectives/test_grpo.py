"""GRPO: normalisers, KL gradients by exact enumeration, and what masked tokens may not do."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from trainer.engine.batches import Rollouts
from trainer.registry import family

GRPO = family("objectives")["grpo"]


def rollouts(mask: list[list[int]]) -> Rollouts:
    mask_BT = torch.tensor(mask, dtype=torch.bool)
    return Rollouts(
        mask_BT=mask_BT,
        old_logp_BT=torch.full(mask_BT.shape, -1.0),
        advantage_BT=torch.linspace(-1, 1, len(mask))[:, None].expand(mask_BT.shape),
        group_B=torch.zeros(len(mask), dtype=torch.long),
        max_new_tokens=4,
    )


@pytest.mark.parametrize(
    ("aggregation", "wanted"),
    [
        ("token-mean", [[1 / 4] * 3 + [0], [1 / 4, 0, 0, 0]]),
        ("sequence-mean", [[1 / 6] * 3 + [0], [1 / 2, 0, 0, 0]]),
        ("constant", [[1 / 8] * 3 + [0], [1 / 8, 0, 0, 0]]),
    ],
)
def test_weights_are_those_of_the_papers(aggregation: str, wanted: list[list[float]]) -> None:
    grpo = GRPO(type="grpo", aggregation=aggregation)
    weight_NT = grpo.token_weights(rollouts([[1, 1, 1, 0], [1, 0, 0, 0]]))
    assert torch.allclose(weight_NT, torch.tensor(wanted))


@pytest.mark.parametrize("aggregation", ["token-mean", "sequence-mean", "constant"])
def test_copies_of_the_batch_leave_the_loss_unchanged(aggregation: str) -> None:
    grpo = GRPO(type="grpo", aggregation=aggregation)

    def loss(copies: int) -> float:
        batch = rollouts([[1, 1, 1, 0], [1, 0, 0, 0]] * copies)
        batch.advantage_BT = torch.tensor([1.0, -0.5] * copies)[:, None].expand_as(batch.mask_BT)
        batch.weight_BT = grpo.token_weights(batch)
        batch.logp_BT = batch.old_logp_BT + 0.1
        return float(grpo.loss(batch).value)

    assert loss(3) == pytest.approx(loss(1), rel=1e-6)


def test_nan_in_padding_does_not_leak() -> None:
    grpo = GRPO(type="grpo", beta=0.1)
    batch = rollouts([[1, 1, 0, 0], [1, 0, 0, 0]])
    batch.ref_logp_BT = torch.where(batch.mask_BT, -1.1, torch.nan)
    batch.old_logp_BT = torch.where(batch.mask_BT, -1.0, torch.inf)
    batch.weight_BT = grpo.token_weights(batch)
    logp_BT = torch.where(batch.mask_BT, -0.9, torch.nan).requires_grad_()
    batch.logp_BT = logp_BT
    loss = grpo.loss(batch)
    loss.value.backward()
    assert loss.value.isfinite()
    assert torch.where(batch.mask_BT, logp_BT.grad, 0.0).isfinite().all()


def test_a_fully_masked_batch_has_no_loss_and_no_nan() -> None:
    grpo = GRPO(type="grpo")
    batch = rollouts([[0, 0], [0, 0]])
    batch.weight_BT = grpo.token_weights(batch)
    batch.logp_BT = torch.zeros(2, 2, requires_grad=True)
    loss = grpo.loss(batch)
    loss.value.backward()
    assert loss.value.item() == 0.0
    assert batch.logp_BT.grad.abs().sum() == 0


@pytest.mark.parametrize(
    ("estimator", "ratio", "forward"),
    [("k2", False, False), ("k1", True, False), ("k3", True, False), ("k3", False, True)],
)
def test_the_kl_term_has_the_gradient_it_claims(estimator: str, ratio: bool, forward: bool) -> None:
    """Exact expectation over a vocabulary of six: KL(pi || ref), or KL(ref || pi) for plain k3."""
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.double, requires_grad=True)
    ref = torch.randn(6, dtype=torch.double).log_softmax(0)
    logp = logits.log_softmax(0)
    exact = (ref.exp() * (ref - logp)).sum() if forward else (logp.exp() * (logp - ref)).sum()
    (wanted,) = torch.autograd.grad(exact, logits, retain_graph=True)

    grpo = GRPO(type="grpo", beta=1.0, kl_estimator=estimator, kl_ratio=ratio)
    # One answer of one token for each outcome, weighted by its probability; advantage 0.
    batch = Rollouts(
        mask_BT=torch.ones(6, 1, dtype=torch.bool),
        old_logp_BT=logp.detach()[:, None],
        advantage_BT=torch.zeros(6, 1, dtype=torch.double),
        group_B=torch.zeros(6, dtype=torch.long),
        max_new_tokens=1,
        ref_logp_BT=ref[:, None],
        weight_BT=logp.detach().exp()[:, None],
        logp_BT=logp[:, None],
    )
    (found,) = torch.autograd.grad(grpo.loss(batch).value, logits)
    assert (found - wanted).norm() / wanted.norm() < 1e-10


@pytest.mark.parametrize(("estimator", "ratio"), [("k1", False), ("k2", True)])
def test_it_refuses_estimators_without_a_right_gradient(estimator: str, ratio: bool) -> None:
    with pytest.raises(ValidationError, match="gradient"):
        GRPO(type="grpo", beta=0.1, kl_estimator=estimator, kl_ratio=ratio)
