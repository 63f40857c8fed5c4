"""The SFT objective."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cross_entropy

from trainer.engine.batches import Demonstrations
from trainer.objectives.sft import SFT

MASK = torch.tensor([[True, True, False, False], [True, True, True, True]])


def batch(logp: torch.Tensor, rows: slice = slice(None)) -> Demonstrations:
    whole = Demonstrations(mask_BT=MASK)
    weight = SFT().token_weights(whole)
    return Demonstrations(MASK[rows], weight_BT=weight[rows], logp_BT=logp[rows])


def test_it_is_the_cross_entropy_over_answer_tokens() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 4, 7), torch.randint(0, 7, (2, 4))
    logp = logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]
    expected = cross_entropy(logits[MASK], targets[MASK])
    assert torch.allclose(SFT().loss(batch(logp)).value, expected)


def test_micro_batches_sum_to_the_whole() -> None:
    logp = -torch.rand(2, 4)
    parts = [SFT().loss(batch(logp, slice(row, row + 1))).value for row in range(2)]
    assert torch.allclose(sum(parts), SFT().loss(batch(logp)).value)


def test_what_stands_in_the_padding_does_not_matter() -> None:
    logp = torch.where(MASK, -1.0, math.nan)
    assert SFT().loss(batch(logp)).value.item() == 1.0


def test_it_counts_the_tokens_that_were_likeliest() -> None:
    logp = torch.full((2, 4), -1.0)
    made = batch(logp)
    made.correct_BT = torch.ones(2, 4, dtype=torch.bool)
    made.correct_BT[1, 0] = False
    assert SFT().loss(made).means["mean_token_accuracy"] == (5.0, 6.0)


def test_the_gradient_of_micro_batches_sums_to_that_of_the_whole() -> None:
    logp = (-torch.rand(2, 4)).requires_grad_()
    SFT().loss(batch(logp)).value.backward()
    whole, logp.grad = logp.grad, None
    for row in range(2):
        SFT().loss(batch(logp, slice(row, row + 1))).value.backward()
    assert whole is not None and logp.grad is not None
    assert torch.equal(logp.grad, whole)


def test_a_batch_without_trained_tokens_has_loss_zero() -> None:
    empty = Demonstrations(torch.zeros(2, 4, dtype=torch.bool), logp_BT=torch.full((2, 4), -1.0))
    empty.weight_BT = SFT().token_weights(empty)
    assert SFT().loss(empty).value.item() == 0.0


def test_it_asks_for_noise_only_where_the_knob_is_on() -> None:
    assert SFT().embedding_noise == 0.0 and SFT(neftune_alpha=5).embedding_noise == 5.0
