"""BCO: a classifier of good and bad answers whose logit is the implicit reward (arXiv 2404.04656)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives._preference import PairScores, ReferenceObjective

if TYPE_CHECKING:
    import torch


class BCO(ReferenceObjective):
    """Learn from pairs, judging each answer by itself against a moving threshold."""

    type: Literal["bco"] = "bco"
    formula: ClassVar[str] = (
        "L = -log sigmoid(r_w - delta) - log sigmoid(-(r_l - delta)), r = beta (log pi - log pi_ref), "
        "delta = moving average of the rewards' mean"
    )

    shift_rate: float = Field(0.1, ge=0, le=1, json_schema_extra={"basic": True})
    """Share of the newest step's mean reward in the moving threshold delta. 0 holds the threshold at 0,
    as TRL's bco_pair does; the paper's shift keeps both answers from being pushed the same way.
    Healthy: 0.01 to 0.2. Source: arXiv 2404.04656, reward shift."""

    def dials(
        self, before: Mapping[str, float], seen: Mapping[str, float], progress: float
    ) -> dict[str, float]:
        """The threshold delta: an exponential average of the mean implicit reward, 0 at the start."""
        if not self.shift_rate:
            return {}
        delta = before.get("reward_shift", 0.0)
        # The paper takes expectations over both kinds of answers; steps before this one stand for them.
        if "rewards/chosen" in seen and "rewards/rejected" in seen:
            mean = (seen["rewards/chosen"] + seen["rewards/rejected"]) / 2
            delta += self.shift_rate * (mean - delta)
        return {"reward_shift": delta}

    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """Binary cross entropy of both answers (B,)."""
        from torch.nn.functional import logsigmoid

        delta = pair.dials.get("reward_shift", 0.0)
        chosen_B = self.beta * pair.chosen_gain_B - delta
        rejected_B = self.beta * pair.rejected_gain_B - delta
        return -logsigmoid(chosen_B) - logsigmoid(-rejected_B)
