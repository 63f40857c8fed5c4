"""WPO: DPO that counts pairs by how likely the policy is to say them (arXiv 2406.11827, equation 2)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Pairs


class WPO(ReferenceObjective):
    """Learn from pairs of another model as if the policy had sampled them."""

    type: Literal["wpo"] = "wpo"
    needs: ClassVar = frozenset({"reference", "collision"})
    formula: ClassVar[str] = (
        "L = -w(chosen) w(rejected) log sigmoid(beta (log ratio(chosen) - log ratio(rejected))), "
        "w = exp mean_t (log pi(t) - log sum_v pi(v)^2), without gradient"
    )

    def pair_weights(self, batch: "Pairs") -> "torch.Tensor":
        """The pairs' shares of the mean times both answers' weights (B,)."""
        chosen_B = _log_weight(
            batch.chosen_mask_BT, batch.chosen_logp_BT, batch.chosen_collision_BT
        )
        rejected_B = _log_weight(
            batch.rejected_mask_BT, batch.rejected_logp_BT, batch.rejected_collision_BT
        )
        return batch.pair_weight_B * (chosen_B + rejected_B).exp()

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The sigmoid loss (B,)."""
        from torch.nn.functional import logsigmoid

        return -logsigmoid(self.beta * pair.margin_B)


def _log_weight(
    mask_BT: "torch.Tensor",
    logp_BT: "torch.Tensor | None",
    collision_BT: "torch.Tensor | None",
) -> "torch.Tensor":
    """Mean over tokens of log p(token) - log E[p(token)], the expectation over p itself (B,).

    Not bounded above, as in the paper's equation and TRL 1.16: earlier code cut the product at 1.
    """
    import torch

    assert logp_BT is not None and collision_BT is not None
    surprise_BT = torch.where(mask_BT, logp_BT.detach() - collision_BT.detach(), 0.0)
    return surprise_BT.sum(-1) / mask_BT.sum(-1).clamp(min=1)
