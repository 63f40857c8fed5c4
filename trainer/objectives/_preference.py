"""What losses on preference pairs share: scores of both answers, implicit rewards, the NLL term, metrics.

A loss file adds its knobs and `per_pair`. Legend: B pairs of the micro-batch, T answer tokens. A score is
sum_t w_t log pi(t) with the weights of `score_weights`; a gain is the policy's score minus the
reference's (the log ratio), or the score itself where the objective uses no reference.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from trainer.registry import Loss, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Pairs


@dataclass(frozen=True)
class PairScores:
    """Scores of both answers of each pair, nats; those of the reference are 0 where there is none."""

    chosen_B: "torch.Tensor"
    rejected_B: "torch.Tensor"
    ref_chosen_B: "torch.Tensor"
    ref_rejected_B: "torch.Tensor"
    chosen_tokens_B: "torch.Tensor"
    """Length of each answer, as a float."""
    rejected_tokens_B: "torch.Tensor"
    dials: Mapping[str, float]
    """Coefficients of this step that move while the run goes on."""

    @property
    def chosen_gain_B(self) -> "torch.Tensor":
        """Log ratio of policy and reference for the chosen answers."""
        return self.chosen_B - self.ref_chosen_B

    @property
    def rejected_gain_B(self) -> "torch.Tensor":
        """Log ratio of policy and reference for the rejected answers."""
        return self.rejected_B - self.ref_rejected_B

    @property
    def margin_B(self) -> "torch.Tensor":
        """How much more the chosen answer gained than the rejected one."""
        return self.chosen_gain_B - self.rejected_gain_B


class PreferenceObjective(Objective):
    """A loss on preference pairs; `beta` turns nats into reward."""

    learns_from: ClassVar = "pairs"
    primary: ClassVar[str] = "rewards/margins"
    charts: ClassVar[tuple[str, ...]] = (
        "rewards/margins",
        "rewards/accuracies|eval/pair_accuracy",
        "loss|eval/loss",
        "rewards/chosen|rewards/rejected",
        "logps/chosen|logps/rejected",
        "eval/accuracy",
        "grad_norm",
        "time",
    )

    beta: float = Field(0.1, gt=0, le=100, json_schema_extra={"basic": True, "live": True})
    """Reward per nat of log ratio; smaller lets the policy move further. Healthy: 0.01 to 0.5.
    Source: arXiv 2305.18290, equation 7."""

    @abstractmethod
    def per_pair(self, pair: PairScores) -> "torch.Tensor":
        """The loss of each pair (B,), before weights and without the NLL term."""

    @property
    def nll_factor(self) -> float:
        """Weight of the chosen answers' NLL; 0 leaves the term out."""
        return 0.0

    def pair_weights(self, batch: "Pairs") -> "torch.Tensor":
        """Weight of each pair (B,), without gradient."""
        return batch.pair_weight_B

    def token_weights(self, batch: "Pairs") -> "torch.Tensor | None":
        """Weights (N, T) of the chosen answers' tokens in the NLL term; they sum to 1."""
        if not self.nll_factor:
            return None
        mask_NT = batch.chosen_mask_BT.float()
        return mask_NT / mask_NT.sum().clamp(min=1)

    def loss(self, batch: "Pairs") -> Loss:
        """The pairs' losses, averaged over the optimizer batch, plus the NLL term."""
        import torch

        assert batch.chosen_logp_BT is not None and batch.rejected_logp_BT is not None
        chosen_BT = torch.where(batch.chosen_mask_BT, batch.chosen_logp_BT, 0.0)
        rejected_BT = torch.where(batch.rejected_mask_BT, batch.rejected_logp_BT, 0.0)
        pair = self._scores(batch, chosen_BT, rejected_BT)
        value = (self.pair_weights(batch) * self.per_pair(pair)).sum()
        means = self._metrics(pair)
        pairs = float(len(chosen_BT))
        means["logps/chosen"] = (float(chosen_BT.detach().sum()), pairs)
        means["logps/rejected"] = (float(rejected_BT.detach().sum()), pairs)
        if self.nll_factor:
            assert batch.nll_weight_BT is not None
            nll = -(batch.nll_weight_BT * chosen_BT).sum()
            value = value + self.nll_factor * nll
            means["nll_loss"] = (float(nll.detach()), float(batch.nll_weight_BT.sum()))
        return Loss(value, means)

    def _scores(
        self, batch: "Pairs", chosen_BT: "torch.Tensor", rejected_BT: "torch.Tensor"
    ) -> PairScores:
        chosen_mask, rejected_mask = batch.chosen_mask_BT, batch.rejected_mask_BT
        chosen_weight_BT = batch.chosen_score_weight_BT
        rejected_weight_BT = batch.rejected_score_weight_BT
        if chosen_weight_BT is None or rejected_weight_BT is None:
            chosen_weight_BT = self.score_weights(chosen_mask, rejected_mask)
            rejected_weight_BT = self.score_weights(rejected_mask, chosen_mask)
        chosen_B = (chosen_weight_BT * chosen_BT).sum(-1)
        rejected_B = (rejected_weight_BT * rejected_BT).sum(-1)
        ref_chosen_B, ref_rejected_B = batch.ref_chosen_score_B, batch.ref_rejected_score_B
        if "reference" not in self.uses:
            ref_chosen_B = ref_rejected_B = chosen_B.new_zeros(chosen_B.shape)
        assert ref_chosen_B is not None and ref_rejected_B is not None
        return PairScores(
            chosen_B,
            rejected_B,
            ref_chosen_B,
            ref_rejected_B,
            chosen_mask.sum(-1).float(),
            rejected_mask.sum(-1).float(),
            batch.dials,
        )

    def _metrics(self, pair: PairScores) -> dict[str, tuple[float, float]]:
        chosen_B = self.beta * pair.chosen_gain_B.detach()
        rejected_B = self.beta * pair.rejected_gain_B.detach()
        margin_B, pairs = chosen_B - rejected_B, float(len(chosen_B))
        # A tie counts half: at the first step, where policy and reference are equal, accuracy is 0.5.
        wins = float((margin_B > 0).sum()) + 0.5 * float((margin_B == 0).sum())
        return {
            "rewards/chosen": (float(chosen_B.sum()), pairs),
            "rewards/rejected": (float(rejected_B.sum()), pairs),
            "rewards/margins": (float(margin_B.sum()), pairs),
            "rewards/accuracies": (wins, pairs),
        }


class MixesNLL(PreferenceObjective):
    """A loss on pairs into which the chosen answers' NLL can be mixed."""

    sft_weight: float = Field(0.0, ge=0, le=100)
    """Weight of the chosen answers' NLL, a mean over tokens: keeps their probability from falling.
    Healthy: 0 for the plain loss, 0.5 to 1 where answers must stay likely. Source: arXiv 2405.16436."""

    @property
    def nll_factor(self) -> float:
        """The mixed-in NLL's weight."""
        return self.sft_weight


class ReferenceObjective(MixesNLL):
    """A loss on pairs that compares with a reference."""

    needs: ClassVar = frozenset({"reference"})


def length_averaged(mask_BT: "torch.Tensor") -> "torch.Tensor":
    """Score weights (B, T) that make a score the mean log-probability of the answer's tokens."""
    mask = mask_BT.float()
    return mask / mask.sum(-1, keepdim=True).clamp(min=1)
