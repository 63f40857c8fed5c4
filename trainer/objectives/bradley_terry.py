"""Bradley-Terry: a reward model from preference pairs (InstructGPT, arXiv 2203.02155, equation 1)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.registry import Loss, Need, Objective

if TYPE_CHECKING:
    from trainer.engine.batches import RankedScores


class BradleyTerry(Objective):
    """Train a reward model whose score is higher for the chosen answer than for the rejected one."""

    type: Literal["bradley-terry"] = "bradley-terry"
    learns_from: ClassVar = "pairs"
    needs: ClassVar = frozenset({"score-head", "margin"})
    primary: ClassVar[str] = "eval/pair_accuracy"
    charts: ClassVar[tuple[str, ...]] = (
        "accuracy|eval/pair_accuracy",
        "loss|eval/loss",
        "margin|eval/margins",
        "rewards/chosen|rewards/rejected",
        "min_reward|mean_reward|max_reward",
        "learning_rate",
        "grad_norm",
        "time",
    )
    formula: ClassVar[str] = (
        "L = -log sigmoid(r_w - r_l) + center_rewards (r_w + r_l)^2; margin subtract: "
        "-log sigmoid(r_w - r_l - m); margin scale: -m log sigmoid(r_w - r_l)"
    )

    margin: Literal["none", "subtract", "scale"] = Field("none", json_schema_extra={"basic": True})
    """What the column `margin` of a pair (how much better the chosen answer is, 0 or more) does: nothing;
    the scores must differ by that much more; or the pair weighs that much. Healthy: subtract with margins
    of 0 to 3, scale with 1 to 3. Source: Llama 2, arXiv 2307.09288, equation 2 (subtract);
    HelpSteer2-Preference, arXiv 2410.01257 (scaled Bradley-Terry)."""
    center_rewards: float = Field(0.0, ge=0, le=10)
    """Weight of the square of the two scores' sum, which holds their mean near 0 (TRL:
    center_rewards_coefficient). Healthy: 0, or 0.01. Source: arXiv 2312.09244, equation 2."""

    @property
    def uses(self) -> frozenset[Need]:
        """Margins only where they do something."""
        return self.needs if self.margin != "none" else self.needs - {"margin"}

    def loss(self, batch: "RankedScores") -> "Loss":
        """Negative log-likelihood of the preferences, averaged over the pairs of the optimizer batch.

        A mean under `scale` too: a margin is a weight, and the sum of weights does not divide.
        """
        from torch.nn.functional import logsigmoid

        chosen_B, rejected_B = batch.chosen_score_B, batch.rejected_score_B
        gap_B = chosen_B - rejected_B
        if self.margin == "none":
            loss_B = -logsigmoid(gap_B)
        else:
            assert batch.margin_B is not None
            if self.margin == "subtract":
                loss_B = -logsigmoid(gap_B - batch.margin_B)
            else:
                loss_B = -batch.margin_B * logsigmoid(gap_B)
        if self.center_rewards > 0:
            loss_B = loss_B + self.center_rewards * (chosen_B + rejected_B) ** 2
        chosen, rejected, gap = chosen_B.detach(), rejected_B.detach(), gap_B.detach()
        pairs, total = float(len(gap)), float(chosen.sum() + rejected.sum())
        # A tie counts half: a model that tells nothing apart is right half the time, not never.
        wins = float((gap > 0).sum()) + 0.5 * float((gap == 0).sum())
        return Loss(
            (batch.pair_weight_B * loss_B).sum(),
            means={
                "accuracy": (wins, pairs),
                "margin": (float(gap.sum()), pairs),
                "mean_reward": (total, 2 * pairs),
                "rewards/chosen": (float(chosen.sum()), pairs),
                "rewards/rejected": (float(rejected.sum()), pairs),
            },
            maxima={"max_reward": max(float(chosen.max()), float(rejected.max()))},
            minima={"min_reward": min(float(chosen.min()), float(rejected.min()))},
        )
