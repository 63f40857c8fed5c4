"""What a policy loss is given of a micro-batch, and what it gives back.

Legend of shape suffixes: B answers, T answer tokens, 1 where a value belongs to the answer as a whole.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Tokens:
    """What a policy loss may look at; every tensor is 0 (False) where `mask_BT` is off."""

    mask_BT: "torch.Tensor"
    """Tokens in the loss."""
    focus_BT: "torch.Tensor"
    """Those of them that the policy term acts on (`top_entropy`)."""
    logp_BT: "torch.Tensor"
    """Under the current policy, with gradient."""
    old_logp_BT: "torch.Tensor"
    log_ratio_BT: "torch.Tensor"
    """log pi - log pi_old, with gradient."""
    advantage_BT: "torch.Tensor"

    def mean_B1(self, values_BT: "torch.Tensor") -> "torch.Tensor":
        """Mean over each answer's tokens (B, 1); 0 for an answer without one."""
        return values_BT.sum(-1, keepdim=True) / self.lengths_B1.clamp(min=1)

    @property
    def lengths_B1(self) -> "torch.Tensor":
        """Tokens of each answer that are in the loss."""
        return self.mask_BT.sum(-1, keepdim=True)

    @property
    def advantage_B1(self) -> "torch.Tensor":
        """One advantage per answer: the mean over its tokens."""
        return self.mean_B1(self.advantage_BT)


@dataclass
class PerToken:
    """The policy loss of each token (B, T) or, the same for all tokens of an answer, (B, 1)."""

    loss: "torch.Tensor"
    beside_BT: "torch.Tensor | None" = None
    """A further loss of each token that neither `top_entropy` nor `off_policy_delta` takes away."""
    means: dict[str, tuple[float, float]] = field(default_factory=dict)
    maxima: dict[str, float] = field(default_factory=dict)
    minima: dict[str, float] = field(default_factory=dict)
