"""SFT: maximum likelihood of demonstrated answers."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.registry import Loss, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Demonstrations


class SFT(Objective):
    """Imitate the answers of the data; prompts are not trained on."""

    type: Literal["sft"] = "sft"
    learns_from: ClassVar = "demonstrations"
    primary: ClassVar[str] = "eval/loss"
    charts: ClassVar[tuple[str, ...]] = (
        "loss|eval/loss",
        "mean_token_accuracy",
        "eval/accuracy",
        "entropy",
        "learning_rate",
        "grad_norm",
        "tokens/train_per_s",
        "time",
    )
    formula: ClassVar[str] = "L = -sum_t m_t log pi(y_t | x, y_<t) / sum_t m_t"

    def token_weights(self, batch: "Demonstrations") -> "torch.Tensor":
        """Weights (N, T): one over the answer tokens of the optimizer batch."""
        mask_NT = batch.mask_BT.float()
        return mask_NT / mask_NT.sum().clamp(min=1)

    def loss(self, batch: "Demonstrations") -> "Loss":
        """Weighted negative log-likelihood, summed."""
        import torch

        assert batch.logp_BT is not None and batch.weight_BT is not None
        logp_BT = torch.where(batch.mask_BT, batch.logp_BT, 0.0)
        means = {}
        if batch.correct_BT is not None:
            tokens = float(batch.mask_BT.sum())
            means["mean_token_accuracy"] = (float((batch.correct_BT & batch.mask_BT).sum()), tokens)
        return Loss(-(batch.weight_BT * logp_BT).sum(), means)
