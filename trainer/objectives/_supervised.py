"""What the losses on demonstrations share: the knob of noisy embeddings, weights and metrics.

Legend: N sequences of the optimizer batch, B of the micro-batch, T answer tokens.
"""

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from trainer.registry import Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Demonstrations


class Supervised(Objective):
    """A loss on answers to imitate; prompts are not trained on."""

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

    neftune_alpha: float = Field(0.0, ge=0, le=100)
    """Noise on the input embeddings in training: uniform in (-1, 1) times alpha / sqrt(length x hidden
    size), with each sequence's own length; 0 turns it off (TRL: neftune_noise_alpha). Healthy: 0, or 5 to
    15 for instruction data of a few thousand rows. Source: NEFTune, arXiv 2310.05914, algorithm 1."""

    @property
    def embedding_noise(self) -> float:
        """Alpha of the noise on input embeddings."""
        return self.neftune_alpha

    def token_weights(self, batch: "Demonstrations") -> "torch.Tensor":
        """Weights (N, T): one over the trained tokens of the optimizer batch."""
        mask_NT = batch.mask_BT.float()
        return mask_NT / mask_NT.sum().clamp(min=1)

    @staticmethod
    def accuracy(batch: "Demonstrations") -> dict[str, tuple[float, float]]:
        """The share of trained tokens that were the likeliest, as (sum, n)."""
        if batch.correct_BT is None:
            return {}
        hits = float((batch.correct_BT & batch.mask_BT).sum())
        return {"mean_token_accuracy": (hits, float(batch.mask_BT.sum()))}
