"""Our losses equal TRL's own code on the same tensors, in value and gradient (relative error < 1e-5).

TRL's loss methods run unchanged on a trainer object that was never constructed: it holds only the
settings that the method reads, and its model is a function that returns the log-probabilities.
"""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainer.engine.batches import Demonstrations, Pairs
from trainer.registry import family

trl = pytest.importorskip("trl", reason="TRL is the numeric reference: pip install trl==1.16.0")

TOLERANCE = 1e-5


@pytest.fixture
def ragged() -> torch.Tensor:
    """A mask of six answers of different lengths, one of a single token."""
    lengths = torch.tensor([7, 3, 1, 5, 7, 2])
    return torch.arange(7)[None, :] < lengths[:, None]


def accelerator() -> SimpleNamespace:
    return SimpleNamespace(
        num_processes=1,
        device=torch.device("cpu"),
        sync_gradients=True,
        reduce=lambda tensor, reduction="sum": tensor,
        gather=lambda tensor: tensor,
        gather_for_metrics=lambda tensor: tensor,
    )


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    error = (ours - theirs).norm() / theirs.norm().clamp(min=1e-12)
    assert error < TOLERANCE, f"relative error {error:.2e}"


@pytest.mark.parametrize("sft_weight", [0.0, 0.7])
def test_dpo_equals_trl(ragged: torch.Tensor, sft_weight: float) -> None:
    from trl.trainer.dpo_trainer import DPOTrainer

    torch.manual_seed(5)
    chosen_mask, rejected_mask = ragged, ragged.flip(0)
    start = -3 * torch.rand(2, *ragged.shape)
    mask = torch.stack([chosen_mask, rejected_mask])
    start = torch.where(mask, start, 0.0)
    ref_B = start.sum(-1) + torch.randn(2, ragged.shape[0])

    theirs = start.clone().requires_grad_()
    trainer = DPOTrainer.__new__(DPOTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = accelerator()
    settings = {
        "aux_loss_enabled": False,
        "ld_alpha": None,
        "precompute_ref_logps": True,
        "f_divergence_type": "reverse_kl",
        "loss_types": ["sigmoid", "sft"] if sft_weight else ["sigmoid"],
        "loss_weights": [1.0, sft_weight] if sft_weight else [1.0],
        "beta": 0.1,
        "use_weighting": False,
        "label_smoothing": 0.0,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in settings.items():
        setattr(trainer, name, value)
    flat_mask = mask.flatten(0, 1).long()
    # TRL drops the first position: a token is predicted by the one before it.
    padded_mask = torch.cat([torch.zeros_like(flat_mask[:, :1]), flat_mask], dim=1)

    def model(**_: Any) -> SimpleNamespace:
        logp = (theirs * mask).flatten(0, 1)
        return SimpleNamespace(
            log_probs=logp,
            entropy=torch.zeros_like(logp),
            mean_logits=torch.zeros_like(logp),
            is_top1=torch.zeros_like(logp, dtype=torch.bool),
        )

    inputs = {
        "input_ids": torch.zeros_like(padded_mask),
        "attention_mask": torch.ones_like(padded_mask),
        "completion_mask": padded_mask,
        "ref_chosen_logps": ref_B[0],
        "ref_rejected_logps": ref_B[1],
    }
    their_loss = trainer._compute_loss(model, inputs, return_outputs=False)
    their_loss.backward()

    dpo = family("objectives")["dpo"](type="dpo", beta=0.1, sft_weight=sft_weight)
    ours = start.clone().requires_grad_()
    batch = Pairs(
        chosen_mask_BT=chosen_mask,
        rejected_mask_BT=rejected_mask,
        pair_weight_B=torch.full((ragged.shape[0],), 1 / ragged.shape[0]),
        chosen_logp_BT=ours[0],
        rejected_logp_BT=ours[1],
        ref_chosen_score_B=ref_B[0],
        ref_rejected_score_B=ref_B[1],
    )
    batch.nll_weight_BT = dpo.token_weights(batch)
    loss = dpo.loss(batch)
    loss.value.backward()

    assert_close(loss.value.detach(), their_loss.detach())
    assert_close(ours.grad, theirs.grad)
    metrics = trainer._metrics["train"]
    for key in (
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
    ):
        total, count = loss.means[key]
        assert total / count == pytest.approx(metrics[key][0], rel=1e-5), key


def trl_sft_loss(loss_type: str, model: Any, labels: torch.Tensor) -> tuple[Any, Any]:
    """SFTTrainer's own loss of a model, and the metrics that it took down."""
    from trl.trainer.sft_trainer import SFTTrainer

    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = SimpleNamespace(**vars(accelerator()), parallelism_config=None)
    trainer.args = SimpleNamespace(loss_type=loss_type, average_tokens_across_devices=False)
    settings = {
        "aux_loss_enabled": False,
        "compute_loss_func": None,
        "label_smoother": None,
        "_total_train_tokens": 0,
        "_tp_size": 1,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in settings.items():
        setattr(trainer, name, value)
    inputs = {"attention_mask": torch.ones(labels.shape), "labels": labels}
    return trainer.compute_loss(model, inputs), trainer._metrics["train"]


def test_sft_equals_trl(ragged: torch.Tensor) -> None:
    torch.manual_seed(6)
    start_BT = -3 * torch.rand(ragged.shape)
    correct_BT = torch.rand(ragged.shape) > 0.5
    theirs_BT = start_BT.clone().requires_grad_()

    def model(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(
            log_probs=theirs_BT * ragged,
            label_mask=ragged,
            entropy=torch.zeros(ragged.shape),
            is_top1=correct_BT & ragged,
        )

    their_loss, metrics = trl_sft_loss("nll", model, torch.zeros(ragged.shape))
    their_loss.backward()

    sft = family("objectives")["sft"](type="sft")
    ours_BT = start_BT.clone().requires_grad_()
    batch = Demonstrations(mask_BT=ragged, logp_BT=ours_BT, correct_BT=correct_BT)
    batch.weight_BT = sft.token_weights(batch)
    loss = sft.loss(batch)
    loss.value.backward()

    assert_close(loss.value.detach(), their_loss.detach())
    assert_close(ours_BT.grad, theirs_BT.grad)
    total, count = loss.means["mean_token_accuracy"]
    assert total / count == pytest.approx(metrics["mean_token_accuracy"][0])
