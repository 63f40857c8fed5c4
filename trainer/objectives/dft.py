"""DFT: likelihood of demonstrated answers, each token weighed by its own probability (arXiv 2508.05629)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._supervised import Supervised
from trainer.registry import Loss

if TYPE_CHECKING:
    from trainer.engine.batches import Demonstrations


class DFT(Supervised):
    """Imitate the answers of the data, but learn little from tokens that the model finds unlikely.

    SFT's gradient is a policy gradient whose reward is 1 / pi for the demonstrated token; the factor
    sg(pi) takes that inverse probability out again, which generalises better where the data is mostly
    within the model's reach, and worse where it is new to the model.
    """

    type: Literal["dft"] = "dft"
    formula: ClassVar[str] = (
        "L = -sum_t m_t sg(pi_t) log pi_t / sum_t m_t,  pi_t = pi(y_t | x, y_<t)"
    )

    def loss(self, batch: "Demonstrations") -> "Loss":
        """The paper's token-level form: the probability carries no gradient. Summed over tokens."""
        import torch

        assert batch.logp_BT is not None and batch.weight_BT is not None
        logp_BT = torch.where(batch.mask_BT, batch.logp_BT, 0.0)
        value = -(batch.weight_BT * logp_BT.detach().exp() * logp_BT).sum()
        return Loss(value, self.accuracy(batch))
