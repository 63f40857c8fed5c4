"""NCA: classify answers by their absolute reward, so that the chosen one's cannot fall (arXiv 2402.05369)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class NCA(ReferenceObjective):
    """Learn from pairs by noise contrast: raise the chosen answer itself, not only its lead."""

    type: Literal["nca"] = "nca"
    formula: ClassVar[str] = (
        "L = -log sigmoid(r_w) - (log sigmoid(-r_w) + log sigmoid(-r_l)) / 2, "
        "r = beta (log pi - log pi_ref) of the chosen (w) and the rejected (l) answer"
    )

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Noise-contrastive loss (B,) with the pair's own answers as the noise."""
        from torch.nn.functional import logsigmoid

        chosen_B, rejected_B = self.beta * pair.chosen_gain_B, self.beta * pair.rejected_gain_B
        noise_B = logsigmoid(-chosen_B) + logsigmoid(-rejected_B)
        return -logsigmoid(chosen_B) - 0.5 * noise_B
