"""GRPO: policy gradient with group-relative advantages and a clipped ratio (arXiv 2402.03300, eq. 3)."""

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainer.registry import Loss, Need, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Rollouts


class GRPO(Objective):
    """Raise the probability of answers that score above their group's mean."""

    type: Literal["grpo"] = "grpo"
    learns_from: ClassVar = "rollouts"
    needs: ClassVar = frozenset({"reference", "reward"})
    primary: ClassVar[str] = "eval/reward"
    charts: ClassVar[tuple[str, ...]] = (
        "reward|eval/reward",
        "eval/accuracy",
        "kl",
        "entropy",
        "completions/mean_length|completions/max_length",
        "clip_ratio/low_mean|clip_ratio/high_mean",
        "grad_norm",
        "frac_reward_zero_std",
        "time",
    )
    formula: ClassVar[str] = (
        "L = -sum_t w_t min(rho_t A, clip(rho_t, 1 - clip_low, 1 + clip_high) A) + beta w_t KL_t, "
        "rho_t = pi(t) / pi_old(t)"
    )

    clip_low: float = Field(0.2, gt=0, lt=1, json_schema_extra={"basic": True})
    """How far a ratio may fall before its gradient stops. Healthy: 0.2.
    Source: arXiv 2402.03300, equation 3 (TRL: epsilon)."""
    clip_high: float = Field(0.28, gt=0, lt=10, json_schema_extra={"basic": True})
    """How far a ratio may rise; above clip_low it leaves room for unlikely tokens (clip-higher).
    Healthy: 0.2 to 0.28. Source: DAPO, arXiv 2503.14476, 3.1 (TRL: epsilon_high)."""
    aggregation: Literal["token-mean", "sequence-mean", "constant"] = Field(
        "token-mean", json_schema_extra={"basic": True}
    )
    """Normaliser of the sum over tokens: all tokens of the step (DAPO), each answer's own length (GRPO),
    or answers times the longest allowed length (Dr. GRPO).
    Source: arXiv 2503.14476 eq. 8; 2402.03300 eq. 3; 2503.20783."""
    beta: float = Field(0.0, ge=0, le=10, json_schema_extra={"basic": True, "live": True})
    """Weight of the KL term that holds the policy near the reference; 0 needs no reference model.
    Healthy: 0 for verifiable rewards, 0.001 to 0.04 otherwise. Source: arXiv 2402.03300, equation 3."""
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    """Estimate of KL(policy || reference) per token, with x = log pi - log pi_ref: x, x^2/2,
    exp(-x) + x - 1. Healthy: k3. Source: J. Schulman, "Approximating KL divergence", 2020."""
    kl_ratio: bool = True
    """Multiply the estimate by the ratio, so that its gradient is that of KL(policy || reference); without
    it k3 has the gradient of the reverse KL and k1 has none. Source: TRL use_bias_correction_kl."""

    @model_validator(mode="after")
    def _estimator_has_a_gradient(self) -> Self:
        if self.beta > 0 and self.kl_estimator == "k1" and not self.kl_ratio:
            raise ValueError(
                "kl_estimator k1 without kl_ratio has no gradient; use k3 or set kl_ratio"
            )
        if self.beta > 0 and self.kl_estimator == "k2" and self.kl_ratio:
            raise ValueError(
                "kl_estimator k2 with kl_ratio has a wrong gradient; set kl_ratio = false"
            )
        return self

    @property
    def uses(self) -> frozenset[Need]:
        """Only a KL term needs the reference."""
        return self.needs if self.beta > 0 else self.needs - {"reference"}

    @property
    def silent_without_advantage(self) -> bool:
        """Without a KL term the advantage is a factor of the whole loss."""
        return self.beta == 0

    def token_weights(self, batch: "Rollouts") -> "torch.Tensor":
        """Weights (N, T) that sum to 1 (`constant`: to at most 1) over the optimizer batch.

        Answers without a trained token count in `sequence-mean` and `constant`, as in the papers' 1/G.
        """
        mask_NT = batch.mask_BT.float()
        answers = max(1, mask_NT.shape[0])
        if self.aggregation == "token-mean":
            return mask_NT / mask_NT.sum().clamp(min=1)
        if self.aggregation == "sequence-mean":
            return mask_NT / mask_NT.sum(-1, keepdim=True).clamp(min=1) / answers
        return mask_NT / (answers * batch.max_new_tokens)

    def loss(self, batch: "Rollouts") -> "Loss":
        """Clipped surrogate plus KL term, both summed with the folded weights."""
        import torch

        assert batch.logp_BT is not None and batch.weight_BT is not None
        mask_BT, logp_BT = batch.mask_BT, batch.logp_BT
        # where, not multiply: padding may hold NaN, and NaN times 0 is NaN.
        log_ratio_BT = torch.where(mask_BT, logp_BT - batch.old_logp_BT, 0.0)
        ratio_BT = log_ratio_BT.exp()
        advantage_BT = batch.advantage_BT
        clipped_BT = ratio_BT.clamp(1 - self.clip_low, 1 + self.clip_high)
        surrogate_BT = torch.minimum(ratio_BT * advantage_BT, clipped_BT * advantage_BT)
        low_BT = mask_BT & (ratio_BT < 1 - self.clip_low) & (advantage_BT < 0)
        high_BT = mask_BT & (ratio_BT > 1 + self.clip_high) & (advantage_BT > 0)
        tokens = float(mask_BT.sum())
        means = {
            "clip_ratio/low_mean": (float(low_BT.sum()), tokens),
            "clip_ratio/high_mean": (float(high_BT.sum()), tokens),
            "clip_ratio/region_mean": (float((low_BT | high_BT).sum()), tokens),
        }
        value = -(batch.weight_BT * torch.where(mask_BT, surrogate_BT, 0.0)).sum()
        if batch.ref_logp_BT is not None:
            kl_BT = self._kl(torch.where(mask_BT, logp_BT - batch.ref_logp_BT, 0.0))
            means["kl"] = (float(kl_BT.detach().sum()), tokens)
            if self.beta > 0:
                weighted_BT = kl_BT * ratio_BT if self.kl_ratio else kl_BT
                value = value + self.beta * (batch.weight_BT * weighted_BT).sum()
        return Loss(value, means)

    def _kl(self, log_ratio_BT: "torch.Tensor") -> "torch.Tensor":
        if self.kl_estimator == "k1":
            return log_ratio_BT
        if self.kl_estimator == "k2":
            return log_ratio_BT**2 / 2
        return (-log_ratio_BT).exp() + log_ratio_BT - 1
