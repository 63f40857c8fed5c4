"""What a loss is given: batches of log-probabilities.

Legend of shape suffixes: B sequences (or pairs) of this micro-batch, T answer tokens (padded on the
right), N sequences of the whole optimizer batch. A batch is first built whole, without log-probabilities,
to compute `weight_BT` (`Objective.token_weights`); micro-batches are slices of it and only sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TC002


@dataclass
class Rollouts:
    """Sampled answers, for objectives that learn from rollouts."""

    mask_BT: torch.Tensor
    """bool: answer tokens that are trained on, the end-of-sequence token included."""
    old_logp_BT: torch.Tensor
    """Log-probabilities under the policy that sampled, float32; undefined where masked out."""
    advantage_B: torch.Tensor
    group_B: torch.Tensor
    """Integer id of the prompt's group."""
    max_new_tokens: int
    ref_logp_BT: torch.Tensor | None = None
    weight_BT: torch.Tensor | None = None
    logp_BT: torch.Tensor | None = None
    """Log-probabilities under the current policy, with gradient."""
    entropy_BT: torch.Tensor | None = None
    """Entropy of the current policy at each position, nats, without gradient."""


@dataclass
class Pairs:
    """Preferred and rejected answers of the same prompts."""

    chosen_mask_BT: torch.Tensor
    rejected_mask_BT: torch.Tensor
    pair_weight_B: torch.Tensor
    """1 / pairs of the optimizer batch."""
    chosen_weight_BT: torch.Tensor | None = None
    """What `token_weights` returned: normalised weights of the chosen answers' tokens."""
    chosen_logp_BT: torch.Tensor | None = None
    rejected_logp_BT: torch.Tensor | None = None
    ref_chosen_logp_B: torch.Tensor | None = None
    """Log-probability of the whole chosen answer under the reference, summed over tokens."""
    ref_rejected_logp_B: torch.Tensor | None = None


@dataclass
class Demonstrations:
    """Prompts with the answer to imitate."""

    mask_BT: torch.Tensor
    weight_BT: torch.Tensor | None = None
    logp_BT: torch.Tensor | None = None
    entropy_BT: torch.Tensor | None = None
    correct_BT: torch.Tensor | None = None
    """bool: the likeliest token is the demonstrated one."""
