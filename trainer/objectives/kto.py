"""KTO: good and bad answers, unpaired, weighed as a person weighs gains and losses (arXiv 2402.01306)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.registry import Loss, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Labelled


class KTO(Objective):
    """Learn from single answers that somebody called good or bad."""

    type: Literal["kto"] = "kto"
    learns_from: ClassVar = "labels"
    needs: ClassVar = frozenset({"reference", "mismatched"})
    primary: ClassVar[str] = "rewards/margins"
    charts: ClassVar[tuple[str, ...]] = (
        "rewards/margins",
        "label_accuracy|eval/label_accuracy",
        "loss|eval/loss",
        "rewards/chosen|rewards/rejected",
        "logps/chosen|logps/rejected",
        "kl",
        "eval/accuracy",
        "grad_norm",
        "time",
    )
    formula: ClassVar[str] = (
        "L = w_good (1 - sigmoid(beta (g - z0))) for good answers, w_bad (1 - sigmoid(beta (z0 - g))) for "
        "bad ones; g = log pi - log pi_ref, z0 = max(0, mean g of answers to other prompts)"
    )

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """Reward per nat of log ratio; smaller lets the policy move further. Healthy: 0.01 to 0.5.
    Source: arXiv 2402.01306."""
    desirable_weight: float = Field(1.0, gt=0, le=100)
    """Weight of good answers. Healthy: with the other weight such that weight times number of good answers
    is 1 to 1.33 of the bad ones'. Source: arXiv 2402.01306."""
    undesirable_weight: float = Field(1.0, gt=0, le=100)
    """Weight of bad answers. Healthy: 1, or more where good answers abound. Source: arXiv 2402.01306."""

    def loss(self, batch: "Labelled") -> Loss:
        """One minus the value of each answer, averaged over the answers of the optimizer batch."""
        import torch

        assert batch.logp_BT is not None and batch.ref_score_B is not None
        logp_BT = torch.where(batch.mask_BT, batch.logp_BT, 0.0)
        weight_BT = batch.score_weight_BT
        if weight_BT is None:
            weight_BT = self.score_weights(batch.mask_BT, batch.mask_BT)
        gain_B = (weight_BT * logp_BT).sum(-1) - batch.ref_score_B
        # Good answers should lie above the reference point, bad ones below it.
        side_B = torch.where(batch.good_B, 1.0, -1.0)
        lead_B = side_B * self.beta * (gain_B - self._reference_point(batch))
        share_B = torch.where(batch.good_B, self.desirable_weight, self.undesirable_weight)
        value = (batch.weight_B * share_B * (-lead_B).sigmoid()).sum()
        return Loss(value, self._metrics(batch, gain_B.detach(), logp_BT.detach(), lead_B.detach()))

    def _reference_point(self, batch: "Labelled") -> "torch.Tensor | float":
        """z0: an estimate of KL(policy || reference) from mismatched answers, never below 0."""
        if batch.other_score_N is None or batch.ref_other_score_N is None:
            return 0.0
        return (batch.other_score_N - batch.ref_other_score_N).mean().detach().clamp(min=0)

    def _metrics(
        self,
        batch: "Labelled",
        gain_B: "torch.Tensor",
        logp_BT: "torch.Tensor",
        lead_B: "torch.Tensor",
    ) -> dict[str, tuple[float, float]]:
        answers = float(len(gain_B))
        # A tie counts half, as for pairs.
        right = float((lead_B > 0).sum()) + 0.5 * float((lead_B == 0).sum())
        means = {
            "label_accuracy": (right, answers),
            "kl": (answers * float(self._reference_point(batch)), answers),
        }
        of_batch = {}
        for name, kind_B in (("chosen", batch.good_B), ("rejected", ~batch.good_B)):
            number = float(kind_B.sum())
            reward = self.beta * float(gain_B[kind_B].sum())
            of_batch[name] = reward
            means[f"rewards/{name}"] = (reward, number)
            means[f"logps/{name}"] = (float(logp_BT[kind_B].sum()), number)
        if batch.good_N and batch.bad_N:
            # A difference of two means: each is divided by its own count in the optimizer batch.
            margin = of_batch["chosen"] / batch.good_N - of_batch["rejected"] / batch.bad_N
            means["rewards/margins"] = (margin, float(batch.weight_B.sum()))
        return means
