"""OPO: the group's length-weighted mean is the baseline of least variance (arXiv 2505.23585)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.advantages._groups import grouped
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class OPO(Advantage):
    """Reward minus the group's mean reward, in which long answers weigh more.

    The variance of the gradient is least when each reward is weighed by its squared score function, which
    is taken to grow with the length of the answer. Made for strictly on-policy steps.
    """

    type: Literal["opo"] = "opo"
    formula: ClassVar[str] = "A_i = r_i - sum_g len_j r_j / sum_g len_j"

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable answers, lone answers and all-equal groups get 0."""
        groups = grouped(outcomes.total_N, outcomes.group_N)
        length_N = outcomes.mask_NT.sum(-1).double() * groups.scorable_N
        weighted_G = groups.total(length_N * groups.score_N)
        baseline_G = weighted_G / groups.total(length_N).clamp(min=1)
        advantage_N = groups.heard(groups.score_N - baseline_G[groups.group_N])
        return advantage_N.to(outcomes.reward_N.dtype)
