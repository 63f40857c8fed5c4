"""GAE: advantages from a critic's values, with bias traded for variance (arXiv 1506.02438, eq. 16)."""

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.advantages._groups import standardised, token_rewards
from trainer.registry import Advantage, Need

if TYPE_CHECKING:
    import torch

    from trainer.registry import Outcomes


class GAE(Advantage):
    """How much better each token turned out than the critic had thought: PPO's advantage.

    Groups play no part, so one answer per prompt will do; a lone answer and an all-equal group are judged
    by the critic. The reward comes with the last token, a KL penalty in the reward with each.
    """

    type: Literal["gae"] = "gae"
    needs: ClassVar[frozenset[Need]] = frozenset({"critic"})
    formula: ClassVar[str] = (
        "delta_t = rho_t + gamma V_{t+1} - V_t; A_t = delta_t + gamma lam A_{t+1}; return_t = A_t + V_t"
    )

    gamma: float = Field(1.0, gt=0, le=1, json_schema_extra={"basic": True})
    """Discount per answer token. Healthy: 1, as only the last token is rewarded. Source: arXiv 2203.02155."""
    lam: float = Field(0.95, ge=0, le=1, json_schema_extra={"basic": True})
    """How far ahead real rewards are trusted over the critic: 1 uses them alone, 0 the critic's next value
    alone. Healthy: 0.95 to 1; 1 for long answers. Source: arXiv 1707.06347; 2203.02155; 2503.01491."""
    whiten: bool = True
    """Turn the advantages into z-scores over all answer tokens of the batch; the critic's targets stay as
    they are. Healthy: on. Source: arXiv 2403.17031."""
    eps: float = Field(1e-4, gt=0)
    """Added to the deviation. Healthy: 1e-4 or less."""

    def advantages(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages (N, T); unscorable answers get 0 and do not move the mean and the deviation."""
        advantage_NT = self._raw(outcomes)
        if self.whiten:
            counted_NT = outcomes.mask_NT & outcomes.reward_N.isfinite()[:, None]
            advantage_NT = standardised(advantage_NT, counted_NT, self.eps)
        return advantage_NT.to(outcomes.reward_N.dtype)

    def returns(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Targets of the critic (N, T); of unscorable answers its own values, from which it learns nothing."""
        return (self._raw(outcomes) + _values(outcomes)).to(outcomes.reward_N.dtype)

    def _raw(self, outcomes: "Outcomes") -> "torch.Tensor":
        """Advantages before whitening (N, T), float64; 0 where masked out or unscorable."""
        import torch

        mask_NT, value_NT = outcomes.mask_NT, _values(outcomes)
        reward_NT = token_rewards(outcomes)
        advantage_NT = torch.zeros_like(value_NT)
        value_N = advantage_N = torch.zeros_like(outcomes.reward_N, dtype=torch.float64)
        for place in reversed(range(value_NT.shape[1])):
            delta_N = reward_NT[:, place] + self.gamma * value_N - value_NT[:, place]
            # A masked-out token takes no time, and behind the last token nothing is expected.
            here_N = mask_NT[:, place]
            advantage_N = torch.where(
                here_N, delta_N + self.gamma * self.lam * advantage_N, advantage_N
            )
            value_N = torch.where(here_N, value_NT[:, place], value_N)
            advantage_NT[:, place] = advantage_N
        counted_NT = mask_NT & outcomes.reward_N.isfinite()[:, None]
        return advantage_NT.masked_fill(~counted_NT, 0.0)


def _values(outcomes: "Outcomes") -> "torch.Tensor":
    assert outcomes.value_NT is not None, "the engine supplies what `needs` names"
    return outcomes.value_NT.double().masked_fill(~outcomes.mask_NT, 0.0)
