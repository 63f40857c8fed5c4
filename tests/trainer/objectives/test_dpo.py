"""DPO: ln 2 at the start, ties count half, padding does not leak."""

from __future__ import annotations

import math

import pytest
import torch

from trainer.engine.batches import Pairs
from trainer.registry import family


def pairs(**changes: torch.Tensor) -> Pairs:
    mask_BT = torch.tensor([[1, 1, 0], [1, 1, 1]], dtype=torch.bool)
    logp_BT = torch.where(mask_BT, -1.0, torch.nan)
    total_B = torch.tensor([-2.0, -3.0])
    values = {
        "chosen_mask_BT": mask_BT,
        "rejected_mask_BT": mask_BT,
        "pair_weight_B": torch.full((2,), 0.5),
        "chosen_logp_BT": logp_BT,
        "rejected_logp_BT": logp_BT.clone(),
        "ref_chosen_score_B": total_B,
        "ref_rejected_score_B": total_B.clone(),
    } | changes
    return Pairs(**values)


def test_the_first_loss_is_ln_2_and_a_tie_counts_half() -> None:
    loss = family("objectives")["dpo"](type="dpo").loss(pairs())
    assert float(loss.value) == pytest.approx(math.log(2), rel=1e-6)
    total, count = loss.means["rewards/accuracies"]
    assert total / count == 0.5


def test_the_nll_term_is_a_token_mean_over_the_batch() -> None:
    dpo = family("objectives")["dpo"](type="dpo", sft_weight=2.0)
    batch = pairs()
    batch.nll_weight_BT = dpo.token_weights(batch)
    assert float(dpo.loss(batch).value) == pytest.approx(math.log(2) + 2.0, rel=1e-6)


def test_it_equals_numpy_on_a_margin() -> None:
    batch = pairs(ref_chosen_score_B=torch.tensor([-3.0, -3.5]))
    loss = family("objectives")["dpo"](type="dpo", beta=0.5).loss(batch)
    wanted = sum(math.log1p(math.exp(-0.5 * gain)) for gain in (1.0, 0.5)) / 2
    assert float(loss.value) == pytest.approx(wanted, rel=1e-6)
    total, count = loss.means["rewards/margins"]
    assert total / count == pytest.approx(0.375)
