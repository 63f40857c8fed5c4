"""SFT: maximum likelihood of demonstrated answers."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.objectives._supervised import Supervised
from trainer.registry import Loss

if TYPE_CHECKING:
    from trainer.engine.batches import Demonstrations


class SFT(Supervised):
    """Imitate the answers of the data; prompts are not trained on."""

    type: Literal["sft"] = "sft"
    formula: ClassVar[str] = "L = -sum_t m_t log pi(y_t | x, y_<t) / sum_t m_t"

    def loss(self, batch: "Demonstrations") -> "Loss":
        """Weighted negative log-likelihood, summed."""
        import torch

        assert batch.logp_BT is not None and batch.weight_BT is not None
        logp_BT = torch.where(batch.mask_BT, batch.logp_BT, 0.0)
        return Loss(-(batch.weight_BT * logp_BT).sum(), self.accuracy(batch))
