"""AdamW: Adam with decoupled weight decay (arXiv 1711.05101)."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from trainer.registry import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


class AdamW(Optimizer):
    """Adaptive moments with decoupled weight decay."""

    type: Literal["adamw"] = "adamw"

    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of the gradients. Healthy: 0.9.
    Source: arXiv 1711.05101."""
    beta2: float = Field(0.95, ge=0, lt=1)
    """Decay of the mean of their squares. Healthy: 0.95 in post-training, 0.999 in long runs.
    Source: arXiv 1711.05101."""
    eps: float = Field(1e-8, gt=0)
    """Added to the denominator. Healthy: 1e-8."""
    weight_decay: float = Field(0.0, ge=0, le=1)
    """Pull of matrices towards zero, per step times the learning rate. Healthy: 0 to 0.1."""

    def build(
        self, parameters: "Iterable[tuple[str, torch.nn.Parameter]]"
    ) -> "torch.optim.Optimizer":
        """Matrices decay, vectors (norms, biases) do not."""
        import torch

        matrices: list[torch.nn.Parameter] = []
        vectors: list[torch.nn.Parameter] = []
        for _, parameter in parameters:
            (matrices if parameter.ndim >= 2 else vectors).append(parameter)
        groups = [
            {"params": matrices, "weight_decay": self.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
        )
