"""GDPO: each reward is normalised in its group before they are summed (arXiv 2601.05242)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import grouped, penalties, standardised
from trainer.registry import Advantage

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class GDPO(Advantage):
    """Weighted sum of each reward's own group z-score, then a z-score over the batch.

    Rewards of different spread keep their say: summed first, the widest would drown the others. A KL
    penalty in the reward has no group z-score (that would undo its coefficient): it is subtracted,
    centred in the group, before the z-score over the batch.
    """

    type: Literal["gdpo"] = "gdpo"
    formula: ClassVar[str] = (
        "S_i = sum_k w_k (r_ik - mean_gk) / (std_gk + eps); A_i = (S_i - mean_batch) / (std_batch + eps)"
    )

    eps: float = Field(1e-4, gt=0)
    """Added to both deviations. Healthy: 1e-4; much smaller turns a reward's jitter into a z-score of 1."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N,); unscorable and lone answers and groups that are equal in every part get 0.

        A part that could not be scored is left out of that part's group, and adds nothing to its answer.
        """
        import torch

        scorable_N = outcomes.reward_N.isfinite()
        parts_NK, weight_K = outcomes.parts_NK, outcomes.part_weight_K
        if parts_NK is None:
            parts_NK, weight_K = outcomes.reward_N[:, None], None
        if weight_K is None:
            weight_K = torch.ones(parts_NK.shape[1])
        sum_N = torch.zeros_like(outcomes.reward_N, dtype=torch.float64)
        heard_N = torch.zeros_like(scorable_N)
        for part_N, weight in zip(parts_NK.unbind(1), weight_K.tolist(), strict=True):
            groups = grouped(part_N.masked_fill(~scorable_N, torch.nan), outcomes.group_N)
            sum_N += weight * groups.centred_N / (groups.std_G[groups.group_N] + self.eps)
            # Of a group that differs in one part, answers without that part are heard as well.
            heard_N |= ~groups.silent_G[groups.group_N]
        penalty_N = penalties(outcomes)
        if penalty_N is not None:
            groups = grouped(penalty_N, outcomes.group_N)
            sum_N -= groups.centred_N
            heard_N |= ~groups.silent_G[groups.group_N]
        advantage_N = standardised(sum_N, scorable_N, self.eps)
        # Sums are 0 on average in every group, so the batch's mean is 0 but for rounding.
        return advantage_N.masked_fill(~heard_N, 0.0).to(outcomes.reward_N.dtype)
