"""The DFT objective."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.trainer.objectives.test_sft import MASK
from tests.trainer.objectives.test_trl_parity import assert_close, trl_sft_loss
from trainer.engine.batches import Demonstrations
from trainer.objectives.dft import DFT


def batch(logp: torch.Tensor, rows: slice = slice(None)) -> Demonstrations:
    weight = DFT().token_weights(Demonstrations(mask_BT=MASK))
    return Demonstrations(MASK[rows], weight_BT=weight[rows], logp_BT=logp[rows])


def test_golden_numbers() -> None:
    p = np.array([[0.5, 0.25, 0.9, 0.9], [0.1, 1.0, 0.8, 0.3]])
    mask = MASK.numpy()
    expected = -(p * np.log(p))[mask].sum() / mask.sum()
    logp = torch.tensor(np.log(p), dtype=torch.float32).requires_grad_()
    loss = DFT().loss(batch(logp)).value
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    # The probability is a constant factor of the gradient: -p / n, not -(1 + log p) p / n.
    assert logp.grad is not None
    np.testing.assert_allclose(logp.grad.numpy(), np.where(mask, -p / mask.sum(), 0), rtol=1e-6)


def test_micro_batches_sum_to_the_whole() -> None:
    logp = (-torch.rand(2, 4)).requires_grad_()
    whole = DFT().loss(batch(logp)).value
    (gradient,) = torch.autograd.grad(whole, logp)
    parts = [DFT().loss(batch(logp, slice(row, row + 1))).value for row in range(2)]
    assert torch.allclose(torch.stack(parts).sum(), whole)
    assert torch.equal(torch.autograd.grad(parts[0] + parts[1], logp)[0], gradient)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    logp = torch.where(MASK, -1.0, math.nan).requires_grad_()
    loss = DFT().loss(batch(logp)).value
    assert loss.item() == pytest.approx(math.exp(-1))
    loss.backward()
    assert logp.grad is not None and bool(torch.isfinite(logp.grad).all())


def test_it_equals_trl() -> None:
    torch.manual_seed(6)
    start_BT = -3 * torch.rand(MASK.shape)
    theirs_BT = start_BT.clone().requires_grad_()
    scores = SimpleNamespace(
        log_probs=theirs_BT * MASK,
        label_mask=MASK,
        entropy=torch.zeros(MASK.shape),
        is_top1=torch.zeros(MASK.shape, dtype=torch.bool),
    )
    their_loss, _ = trl_sft_loss("dft", lambda **_: scores, torch.zeros(MASK.shape))
    their_loss.backward()
    ours_BT = start_BT.clone().requires_grad_()
    our_loss = DFT().loss(batch(ours_BT)).value
    our_loss.backward()
    assert_close(our_loss.detach(), their_loss.detach())
    assert ours_BT.grad is not None and theirs_BT.grad is not None
    assert_close(ours_BT.grad, theirs_BT.grad)
