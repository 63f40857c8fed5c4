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

from trainer.engine.batches import Demonstrations, Pairs, Rollouts
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


def trl_grpo(loss_type: str, beta: float, ratio_kl: bool, old: Any, ref: Any) -> Any:
    from trl.trainer.grpo_trainer import GRPOTrainer

    trainer = GRPOTrainer.__new__(GRPOTrainer)
    trainer.model = SimpleNamespace(training=True)
    trainer.accelerator = accelerator()
    trainer.args = SimpleNamespace(
        delta=None, use_bias_correction_kl=ratio_kl, steps_per_generation=1
    )
    settings = {
        "aux_loss_enabled": False,
        "top_entropy_quantile": 1.0,
        "off_policy_mask_threshold": None,
        "importance_sampling_level": "token",
        "beta": beta,
        "loss_type": loss_type,
        "epsilon_low": 0.2,
        "epsilon_high": 0.28,
        "use_vllm": False,
        "vllm_importance_sampling_correction": False,
        "current_gradient_accumulation_steps": 1,
        "max_completion_length": 9,
        "_entropy_bonus_enabled": False,
        "_metrics": {"train": defaultdict(list)},
    }
    for name, value in settings.items():
        setattr(trainer, name, value)
    return trainer


@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("kl_ratio", [True, False])
@pytest.mark.parametrize(
    ("aggregation", "loss_type"),
    [("token-mean", "dapo"), ("sequence-mean", "grpo"), ("constant", "dr_grpo")],
)
def test_grpo_equals_trl(
    ragged: torch.Tensor, aggregation: str, loss_type: str, beta: float, kl_ratio: bool
) -> None:
    torch.manual_seed(3)
    shape = ragged.shape
    old_BT = -3 * torch.rand(shape)
    ref_BT = old_BT + 0.3 * torch.randn(shape)
    # Far enough from the old policy that both clip bounds bind.
    start_BT = old_BT + 0.4 * torch.randn(shape)
    advantage_B = torch.tensor([1.2, -0.8, 0.5, -1.5, 0.9, -0.3])

    theirs_BT = start_BT.clone().requires_grad_()
    trainer = trl_grpo(loss_type, beta, kl_ratio, old_BT, ref_BT)
    entropy_BT = torch.rand(shape)
    trainer._get_per_token_logps_and_entropies = lambda *_, **__: (theirs_BT, entropy_BT, None)
    ids = torch.zeros(shape, dtype=torch.long)
    their_loss = trainer._compute_loss(
        None,
        {
            "prompt_ids": ids[:, :1],
            "prompt_mask": ids[:, :1] + 1,
            "completion_ids": ids,
            "completion_mask": ragged.long(),
            "advantages": advantage_B,
            "old_per_token_logps": old_BT,
            "ref_per_token_logps": ref_BT,
            "num_items_in_batch": ragged.sum(),
        },
    )
    their_loss.backward()

    grpo = family("objectives")["grpo"](
        type="grpo",
        clip_low=0.2,
        clip_high=0.28,
        aggregation=aggregation,
        beta=beta,
        kl_ratio=kl_ratio,
    )
    batch = Rollouts(
        mask_BT=ragged,
        old_logp_BT=old_BT,
        advantage_BT=advantage_B[:, None].expand(shape),
        group_B=torch.arange(shape[0]),
        max_new_tokens=9,
        ref_logp_BT=ref_BT if beta else None,
    )
    batch.weight_BT = grpo.token_weights(batch)
    ours_BT = start_BT.clone().requires_grad_()
    batch.logp_BT = ours_BT
    loss = grpo.loss(batch)
    loss.value.backward()

    assert_close(loss.value.detach(), their_loss.detach())
    assert_close(ours_BT.grad, theirs_BT.grad)
    metrics = trainer._metrics["train"]
    for key in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean"):
        total, count = loss.means[key]
        assert total / count == pytest.approx(metrics[key][0], rel=1e-5)
        assert total > 0, "the test must reach the clip bounds"
    if beta and not kl_ratio:
        total, count = loss.means["kl"]
        assert total / count == pytest.approx(metrics["kl"][0], rel=1e-5)


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
