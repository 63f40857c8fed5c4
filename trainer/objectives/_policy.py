"""What all policy gradients share: token weights, KL, entropy bonus, masks, and the sum of the terms.

Legend of shape suffixes: B answers of a micro-batch, N of the optimizer batch, T answer tokens, 1 where
a value belongs to the answer as a whole. A method of this kind gives `per_token`, its own loss of each
token or answer; the rest is here. Every weight is computed on the optimizer batch (`token_weights`,
`term_weights`), so micro-batches only sum.
"""

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trainer.objectives._aggregation import Aggregation, aggregation_weights, most_uncertain
from trainer.objectives._controllers import (
    BetaSchedule,
    scheduled_beta,
    steered_beta,
    steered_entropy,
)
from trainer.objectives._divergence import Estimator, kl_estimate, kl_problem
from trainer.objectives._tokens import PerToken, Tokens
from trainer.registry import Loss, Need, Objective

if TYPE_CHECKING:
    import torch

    from trainer.engine.batches import Rollouts

BASIC: dict[str, Any] = {"basic": True}
HIGHEST_LOG_RATIO = 20.0
"""A ratio of half a thousand million is as far off as any higher one."""


class PolicyObjective(Objective):
    """A policy gradient on sampled answers, with what all of them can add to it."""

    learns_from: ClassVar = "rollouts"
    needs: ClassVar = frozenset({"reference", "reward", "entropy", "sampled-entropy"})
    primary: ClassVar[str] = "eval/reward"
    charts: ClassVar[tuple[str, ...]] = (
        "reward|eval/reward",
        "eval/accuracy",
        "kl",
        "entropy",
        "completions/mean_length|completions/max_length",
        "grad_norm",
        "frac_reward_zero_std",
        "time",
    )
    focuses_itself: ClassVar[bool] = False
    """Whether `per_token` applies the top-entropy mask itself, inside a mean over the answer."""

    aggregation: Aggregation = Field("token-mean", json_schema_extra=BASIC)
    """Normaliser of the sum over tokens: all tokens of the step (DAPO), each answer's own length (GRPO),
    answers times the longest allowed length (Dr. GRPO), or each prompt's tokens (SkyRL).
    Source: arXiv 2503.14476 eq. 8; 2402.03300 eq. 3; 2503.20783; SkyRL prompt_mean."""
    beta: float = Field(0.0, ge=0, le=10, json_schema_extra={**BASIC, "live": True})
    """Weight of the KL term that holds the policy near the reference; 0 needs no reference model.
    Healthy: 0 for verifiable rewards, 0.001 to 0.04 otherwise. Source: arXiv 2402.03300, equation 3."""
    kl_in: Literal["loss", "reward"] = "loss"
    """Add the KL term to the loss, or subtract it from the reward of each token before advantages are
    taken (with k1). Healthy: loss for GRPO, reward for PPO, RLOO and REINFORCE++.
    Source: arXiv 2402.03300, section 4.1."""
    kl_estimator: Estimator = "k3"
    """Estimate of KL(policy || reference) per token, with x = log pi - log pi_ref: x, x^2/2,
    exp(-x) + x - 1. Healthy: k3. Source: J. Schulman, "Approximating KL divergence", 2020."""
    kl_ratio: bool = True
    """Multiply the estimate by the ratio, so that its gradient is that of KL(policy || reference); without
    it k3 has the gradient of the reverse KL and k1 has none. In the loss only.
    Source: arXiv 2512.02556 (TRL: use_bias_correction_kl)."""
    beta_schedule: BetaSchedule = "constant"
    """How beta moves: not at all, in a line or half a cosine to `beta_end`, or steered so that KL stays
    at `kl_target`. Healthy: constant. Source: arXiv 1909.08593, section 2.2 (target)."""
    beta_end: float = Field(0.0, ge=0, le=10)
    """beta at the end of the run, for the schedules linear and cosine. Healthy: 0 to beta."""
    kl_target: float = Field(0.0, ge=0, le=100)
    """The KL per token that the schedule target steers to, in nats. Healthy: 0.001 to 0.1.
    Source: arXiv 1909.08593, section 2.2 (there per answer)."""
    kl_gain: float = Field(0.1, gt=0, le=1)
    """Strength of that controller: a step changes beta by at most a fifth of it. Healthy: 0.1.
    Source: arXiv 1909.08593, section 2.2."""
    entropy_coef: float = Field(0.0, ge=0, le=10, json_schema_extra={"live": True})
    """Weight of the entropy bonus, the mean entropy of the trained tokens whatever the aggregation; with
    `entropy_target` the coefficient to start from. Healthy: 0; 0.0001 to 0.01 against collapse.
    Source: arXiv 1602.01783 (TRL: entropy_coef)."""
    entropy_target: float = Field(0.0, ge=0, le=20)
    """Above 0 the coefficient is steered: it rises after a step whose mean entropy, in nats, was at or
    below this, falls after another, and acts only behind the former. Healthy: the entropy of the first
    steps, or a little less. Source: Skywork-OR1, arXiv 2505.22312 (TRL: use_adaptive_entropy)."""
    entropy_coef_step: float = Field(0.005, gt=0, le=1)
    """By how much the steered coefficient moves in a step. Healthy: 0.001 to 0.01.
    Source: arXiv 2505.22312 (TRL: entropy_coef_delta)."""
    entropy_coef_max: float = Field(1.0, gt=0, le=10)
    """The steered coefficient's ceiling. Healthy: 0.1 to 1. Source: TRL entropy_coef_max."""
    top_entropy: float = Field(1.0, gt=0, le=1)
    """Share of the step's tokens, those of the highest entropy, that the policy term acts on; the others
    stay in the denominators, KL acts on all. Healthy: 1 (all) or 0.2.
    Source: arXiv 2506.01939 (TRL: top_entropy_quantile)."""
    mask_truncated: bool = False
    """Leave answers that ran into max_new_tokens out of the loss; their rewards stay in the baseline
    (overlong filtering). Source: DAPO, arXiv 2503.14476, 3.4 (TRL: mask_truncated_completions)."""
    off_policy_delta: float = Field(0.0, ge=0, le=100)
    """Above 0, an answer with a negative advantage leaves the policy term when the mean of log pi_old -
    log pi over its tokens exceeds this, in nats. Healthy: 0 (off) or 0.5 with many updates per rollout.
    Source: DeepSeek-V3.2, arXiv 2512.02556, equation 9 (TRL: off_policy_mask_threshold)."""

    @model_validator(mode="after")
    def _coefficients_fit_together(self) -> Self:
        if self.beta_schedule in ("linear", "cosine") and not self.beta and not self.beta_end:
            raise ValueError(f"beta_schedule {self.beta_schedule} needs beta or beta_end above 0")
        if self.beta_schedule in ("constant", "target") and self.beta_end:
            raise ValueError(
                f"beta_end has no effect with beta_schedule {self.beta_schedule}; "
                "use linear or cosine, or set beta_end = 0"
            )
        if self.beta_schedule == "target" and not (self.beta and self.kl_target):
            raise ValueError("beta_schedule target needs beta and kl_target above 0")
        if self.beta_schedule != "target" and self.kl_target:
            raise ValueError('kl_target needs beta_schedule = "target"; else set it to 0')
        if self.has_kl:
            problem = kl_problem(self.kl_estimator, ratio=self.kl_ratio, place=self.kl_in)
            if problem:
                raise ValueError(problem)
        if self.entropy_target and self.entropy_coef > self.entropy_coef_max:
            raise ValueError("entropy_coef must not exceed entropy_coef_max")
        return self

    @property
    def has_kl(self) -> bool:
        """Whether a KL term acts at any time of the run."""
        return self.beta > 0 or self.beta_end > 0

    @property
    def has_bonus(self) -> bool:
        """Whether an entropy bonus acts at any time of the run."""
        return self.entropy_coef > 0 or self.entropy_target > 0

    @property
    def uses(self) -> frozenset[Need]:
        """Only a KL term needs the reference, only a bonus the entropy's gradient."""
        unused: set[Need] = set()
        if not self.has_kl:
            unused.add("reference")
        if not self.has_bonus:
            unused.add("entropy")
        if self.top_entropy >= 1:
            unused.add("sampled-entropy")
        return self.needs - unused

    @property
    def steered(self) -> frozenset[str]:
        """`beta` and `entropy_coef` while their targets set them."""
        found = {"beta"} if self.beta_schedule == "target" else set()
        return frozenset(found | ({"entropy_coef"} if self.entropy_target > 0 else set()))

    @property
    def silent_without_advantage(self) -> bool:
        """True where the advantage is a factor of the whole loss."""
        return not (self.has_kl and self.kl_in == "loss") and not self.has_bonus

    def dials(
        self, before: Mapping[str, float], seen: Mapping[str, float], progress: float
    ) -> dict[str, float]:
        """`beta` where there is a KL term, `entropy_coef` where there is a bonus."""
        found: dict[str, float] = {}
        if self.has_kl and self.beta_schedule == "target":
            beta = before.get("beta", self.beta)
            found["beta"] = steered_beta(beta, seen.get("kl"), self.kl_target, self.kl_gain)
        elif self.has_kl:
            found["beta"] = scheduled_beta(self.beta, self.beta_end, self.beta_schedule, progress)
        if self.entropy_target > 0:
            found |= steered_entropy(
                before,
                seen.get("entropy/trained"),
                start=self.entropy_coef,
                target=self.entropy_target,
                step=self.entropy_coef_step,
                ceiling=self.entropy_coef_max,
            )
        elif self.has_bonus:
            found["entropy_coef"] = self.entropy_coef
        return found

    def reward_kl(self, dials: Mapping[str, float]) -> float:
        """beta, where `kl_in` says reward."""
        return dials.get("beta", self.beta) if self.kl_in == "reward" else 0.0

    def token_weights(self, batch: "Rollouts") -> "torch.Tensor":
        """Weights (N, T) of the policy term: the aggregation, 0 for tokens that a filter took out."""
        weight_NT = self._plain_weights(batch)
        return weight_NT * self._focus(batch) if self.top_entropy < 1 else weight_NT

    def term_weights(self, batch: "Rollouts") -> "dict[str, torch.Tensor]":
        """`all`: as `token_weights`, but without the top-entropy mask, for KL and value losses;
        `entropy`: a plain mean over the tokens that the policy term acts on."""
        found = {}
        if self.top_entropy < 1:
            found["all"] = self._plain_weights(batch)
        if self.has_bonus:
            focus_NT = self._focus(batch).float()
            found["entropy"] = focus_NT / focus_NT.sum().clamp(min=1)
        return found

    @abstractmethod
    def per_token(self, tokens: Tokens) -> PerToken:
        """The policy's loss of each token or answer, unweighted, with what it measured."""

    def loss(self, batch: "Rollouts") -> Loss:
        """Policy term, KL term and entropy bonus, each summed with its folded weights."""
        import torch

        assert batch.weight_BT is not None
        tokens = self._tokens(batch)
        found = self.per_token(tokens)
        weight_BT = self.all_weights(batch) if self.focuses_itself else batch.weight_BT
        acts_BT = tokens.mask_BT
        if self.off_policy_delta > 0:
            drift_B1 = tokens.mean_B1(-tokens.log_ratio_BT.detach())
            dropped_B1 = (tokens.advantage_B1 < 0) & (drift_B1 > self.off_policy_delta)
            acts_BT = acts_BT & ~dropped_B1
            answers = float((tokens.lengths_B1 > 0).sum())
            found.means["off_policy_masked_frac"] = (float(dropped_B1.sum()), answers)
        if batch.correction_BT is not None:
            # Of the policy term alone: KL, entropy and values are means over what was sampled.
            weight_BT = weight_BT * batch.correction_BT
        # where, not multiply: padding may hold NaN, and NaN times 0 is NaN.
        value = (weight_BT * torch.where(acts_BT, found.loss, 0.0)).sum()
        if found.beside_BT is not None:
            beside_BT = torch.where(tokens.mask_BT, found.beside_BT, 0.0)
            value = value + (self.all_weights(batch) * beside_BT).sum()
        value = value + self._kl_term(batch, tokens, found)
        if self.has_bonus:
            found.means["policy_loss"] = (float(value.detach()), self.share(batch))
            value = value - self._bonus(batch, tokens, found)
        return Loss(value, found.means, found.maxima, found.minima)

    def share(self, batch: "Rollouts") -> float:
        """This micro-batch's share of the optimizer batch: a mean's n for a value that is summed."""
        return float(batch.mask_BT.sum()) / batch.tokens if batch.tokens else 0.0

    def all_weights(self, batch: "Rollouts") -> "torch.Tensor":
        """Weights (B, T) of terms that the top-entropy mask does not reach."""
        assert batch.weight_BT is not None
        return batch.term_weight_BT["all"] if self.top_entropy < 1 else batch.weight_BT

    def trained_mask(self, batch: "Rollouts") -> "torch.Tensor":
        """bool: tokens in the loss; those of truncated answers are not where `mask_truncated`."""
        if not self.mask_truncated:
            return batch.mask_BT
        assert batch.truncated_B is not None
        return batch.mask_BT & ~batch.truncated_B[:, None]

    def _plain_weights(self, batch: "Rollouts") -> "torch.Tensor":
        return aggregation_weights(
            self.trained_mask(batch), batch.group_B, self.aggregation, batch.max_new_tokens
        )

    def _focus(self, batch: "Rollouts") -> "torch.Tensor":
        mask_NT = self.trained_mask(batch)
        if self.top_entropy >= 1:
            return mask_NT
        assert batch.old_entropy_BT is not None
        return most_uncertain(batch.old_entropy_BT, mask_NT, self.top_entropy)

    def _tokens(self, batch: "Rollouts") -> Tokens:
        import torch

        assert batch.logp_BT is not None and batch.weight_BT is not None
        mask_BT = self.trained_mask(batch)
        log_ratio_BT = torch.where(mask_BT, batch.logp_BT - batch.old_logp_BT, 0.0)
        return Tokens(
            mask_BT,
            mask_BT & (batch.weight_BT > 0) if self.top_entropy < 1 else mask_BT,
            torch.where(mask_BT, batch.logp_BT, 0.0),
            torch.where(mask_BT, batch.old_logp_BT, 0.0),
            # exp overflows at 88, and a branch that a clip drops would then give 0 times infinity.
            log_ratio_BT.clamp(max=HIGHEST_LOG_RATIO),
            torch.where(mask_BT, batch.advantage_BT, 0.0),
        )

    def _kl_term(
        self, batch: "Rollouts", tokens: Tokens, found: PerToken
    ) -> "torch.Tensor | float":
        import torch

        beta = batch.dials.get("beta", self.beta) if self.kl_in == "loss" else 0.0
        if batch.ref_logp_BT is None:
            assert not beta, "a KL term without the reference's log-probabilities"
            return 0.0
        assert batch.logp_BT is not None
        gap_BT = torch.where(tokens.mask_BT, batch.logp_BT - batch.ref_logp_BT, 0.0)
        kl_BT = kl_estimate(gap_BT, self.kl_estimator)
        found.means["kl"] = (float(kl_BT.detach().sum()), float(tokens.mask_BT.sum()))
        if not beta:
            return 0.0
        if self.kl_ratio:
            kl_BT = kl_BT * tokens.log_ratio_BT.exp()
        return beta * (self.all_weights(batch) * kl_BT).sum()

    def _bonus(self, batch: "Rollouts", tokens: Tokens, found: PerToken) -> "torch.Tensor":
        import torch

        assert batch.entropy_BT is not None
        weight_BT = batch.term_weight_BT["entropy"]
        entropy_BT = torch.where(tokens.focus_BT, batch.entropy_BT, 0.0)
        total = float(entropy_BT.detach().sum())
        found.means["entropy/trained"] = (total, float(tokens.focus_BT.sum()))
        fixed = 0.0 if self.entropy_target > 0 else self.entropy_coef
        coefficient = batch.dials.get("entropy_coef_applied", fixed)
        return coefficient * (weight_BT * entropy_BT).sum()
