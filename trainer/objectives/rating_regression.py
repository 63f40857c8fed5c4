"""Rating regression: a reward model from ratings, one output per quality (HelpSteer2, arXiv 2406.08673)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from trainer.registry import Loss, Objective

if TYPE_CHECKING:
    from trainer.engine.batches import RatedScores


class RatingRegression(Objective):
    """Train a reward model that predicts the ratings people gave, of one or several qualities."""

    type: Literal["rating-regression"] = "rating-regression"
    learns_from: ClassVar = "ratings"
    needs: ClassVar = frozenset({"score-head"})
    primary: ClassVar[str] = "eval/loss"
    charts: ClassVar[tuple[str, ...]] = (
        "loss|eval/loss",
        "eval/spearman",
        "min_reward|mean_reward|max_reward",
        "learning_rate",
        "grad_norm",
        "time",
    )
    formula: ClassVar[str] = "L = sum_ik known_ik (r_ik - rating_ik)^2 / sum_ik known_ik"

    def loss(self, batch: "RatedScores") -> "Loss":
        """Mean squared error over the known ratings of the optimizer batch."""
        import torch

        score_BK, known_BK = batch.score_BK, ~batch.rating_BK.isnan()
        # where, not multiply: an unknown rating is NaN, and NaN times 0 is NaN, in the gradient too.
        error_BK = torch.where(known_BK, score_BK - batch.rating_BK.nan_to_num(0.0), 0.0)
        scores = score_BK.detach()
        return Loss(
            (batch.weight_BK * error_BK**2).sum(),
            means={"mean_reward": (float(scores.sum()), float(scores.numel()))},
            maxima={"max_reward": float(scores.max())},
            minima={"min_reward": float(scores.min())},
        )
