"""DPO: prefer the chosen answer over the rejected one, relative to a reference (arXiv 2305.18290, eq. 7)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.registry import Loss, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Pairs


class DPO(Objective):
    """Learn from preference pairs without a reward model."""

    type: Literal["dpo"] = "dpo"
    learns_from: ClassVar = "pairs"
    needs: ClassVar = frozenset({"reference"})
    primary: ClassVar[str] = "rewards/margins"
    charts: ClassVar[tuple[str, ...]] = (
        "rewards/margins",
        "rewards/accuracies|eval/pair_accuracy",
        "loss|eval/loss",
        "rewards/chosen|rewards/rejected",
        "logps/chosen|logps/rejected",
        "eval/accuracy",
        "grad_norm",
        "time",
    )
    formula: ClassVar[str] = (
        "L = -log sigmoid(beta ((log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected))) "
        "- sft_weight mean_t log pi(chosen)"
    )

    beta: float = Field(0.1, gt=0, le=10, json_schema_extra={"basic": True})
    """How strongly to stay near the reference; smaller moves further. Healthy: 0.01 to 0.5.
    Source: arXiv 2305.18290, equation 7."""
    sft_weight: float = Field(0.0, ge=0, le=100, json_schema_extra={"basic": True})
    """Weight of the chosen answers' mean token NLL: keeps their probability from falling. Healthy: 0 for
    plain DPO, 0.5 to 1 where answers must stay likely. Source: RPO, arXiv 2405.16436."""

    def token_weights(self, batch: "Pairs") -> "torch.Tensor":
        """Weights (N, T) of the chosen answers' tokens for the NLL term; they sum to 1."""
        mask_NT = batch.chosen_mask_BT.float()
        return mask_NT / mask_NT.sum().clamp(min=1)

    def loss(self, batch: "Pairs") -> "Loss":
        """Sigmoid preference loss, averaged over the pairs of the optimizer batch, plus the NLL term."""
        import torch
        from torch.nn.functional import logsigmoid

        assert batch.chosen_logp_BT is not None and batch.rejected_logp_BT is not None
        assert batch.ref_chosen_score_B is not None and batch.ref_rejected_score_B is not None
        chosen_BT = torch.where(batch.chosen_mask_BT, batch.chosen_logp_BT, 0.0)
        chosen_B = chosen_BT.sum(-1)
        rejected_B = torch.where(batch.rejected_mask_BT, batch.rejected_logp_BT, 0.0).sum(-1)
        chosen_gain_B = self.beta * (chosen_B - batch.ref_chosen_score_B)
        rejected_gain_B = self.beta * (rejected_B - batch.ref_rejected_score_B)
        margin_B = chosen_gain_B - rejected_gain_B
        value = -(batch.pair_weight_B * logsigmoid(margin_B)).sum()
        if self.sft_weight > 0:
            assert batch.nll_weight_BT is not None
            value = value - self.sft_weight * (batch.nll_weight_BT * chosen_BT).sum()
        pairs, detached_B = float(len(margin_B)), margin_B.detach()
        # A tie counts half: at the first step, where policy and reference are equal, accuracy is 0.5.
        wins = float((detached_B > 0).sum()) + 0.5 * float((detached_B == 0).sum())
        return Loss(
            value,
            {
                "rewards/chosen": (float(chosen_gain_B.detach().sum()), pairs),
                "rewards/rejected": (float(rejected_gain_B.detach().sum()), pairs),
                "rewards/margins": (float(detached_B.sum()), pairs),
                "rewards/accuracies": (wins, pairs),
                "logps/chosen": (float(chosen_B.detach().sum()), pairs),
                "logps/rejected": (float(rejected_B.detach().sum()), pairs),
            },
        )
