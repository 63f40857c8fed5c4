"""How a sum over tokens becomes a mean: one weight per token, from the optimizer batch as a whole.

Legend: N answers of the optimizer batch, T answer tokens. Every weight is 0 where the mask is off.
"""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Aggregation = Literal["token-mean", "sequence-mean", "constant", "prompt-mean"]


def aggregation_weights(
    mask_NT: "torch.Tensor",
    group_N: "torch.Tensor",
    aggregation: Aggregation,
    max_new_tokens: int,
) -> "torch.Tensor":
    """Weights (N, T), float32, that sum to 1 (`constant`: to at most 1) over the optimizer batch.

    token-mean     1 / (tokens of the batch)                      DAPO, arXiv 2503.14476, eq. 8
    sequence-mean  1 / (answers x tokens of this answer)          GRPO, arXiv 2402.03300, eq. 3
    constant       1 / (answers x max_new_tokens)                 Dr. GRPO, arXiv 2503.20783
    prompt-mean    1 / (prompts x tokens of this prompt's group)  SkyRL's prompt_mean

    An answer without a trained token (all of it filtered) leaves a token-mean's denominator, as if it
    were absent; it still counts as one of the answers or prompts of the other three, as in the papers'
    1/G and in TRL: filtering must not raise the weight of the answers that remain.
    """
    import torch

    mask = mask_NT.float()
    answers = max(1, mask.shape[0])
    if aggregation == "token-mean":
        return mask / mask.sum().clamp(min=1)
    if aggregation == "sequence-mean":
        return mask / mask.sum(-1, keepdim=True).clamp(min=1) / answers
    if aggregation == "constant":
        return mask / (answers * max_new_tokens)
    groups, place_N = torch.unique(group_N, return_inverse=True)
    lengths_G = mask.new_zeros(max(1, len(groups))).index_add(0, place_N, mask.sum(-1))
    return mask / lengths_G[place_N].clamp(min=1)[:, None] / max(1, len(groups))


def most_uncertain(
    entropy_NT: "torch.Tensor", mask_NT: "torch.Tensor", share: float
) -> "torch.Tensor":
    """bool (N, T): the tokens at or above the (1 - share) quantile of the batch's entropies.

    The quantile is interpolated linearly, ties at the threshold are kept (arXiv 2506.01939; TRL:
    top_entropy_quantile, which takes the quantile of a micro-batch; here it is the optimizer batch's).
    """
    import torch

    if share >= 1 or not bool(mask_NT.any()):
        return mask_NT
    ordered = entropy_NT[mask_NT].float().sort().values
    place = (len(ordered) - 1) * (1 - share)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    threshold = torch.lerp(ordered[below], ordered[above], place - below)
    return mask_NT & (torch.where(mask_NT, entropy_NT, -1.0).float() >= threshold)
