"""What the spec says about answers that were not drawn from the policy that learns from them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from trainer.section import Section

Level = Literal["auto", "none", "token", "sequence", "geometric"]


class Correction(Section):
    """How a gap between sampler and trainer is made good: another engine, another precision, older weights.

    rho = pi_old / pi_sampler, of one token, of an answer as a whole (the product over its tokens) or of its
    geometric mean. Denominators of the loss count every token, the rejected ones too.
    """

    old_policy: Literal["auto", "sampler", "trainer"] = "auto"
    """Whom the objective's ratio compares the policy with; `auto` is the trainer where `rollout.max_staleness`
    lets answers be stale, else the sampler. `sampler`: the log-probabilities recorded while
    sampling, so that the ratio itself makes the gap good (two policies; verl: bypass_mode). `trainer`: the
    trainer's own before the first update on a batch, one more forward pass; clipping then is around the newest
    weights, and the rest is for `weight` (three policies: decoupled PPO). Healthy: auto.
    Source: arXiv 2110.00641, section 3; AReaL, arXiv 2505.24298, section 5.2."""
    weight: Level = "auto"
    """Multiply the policy term by min(rho, weight_cap): truncated importance sampling, for
    old_policy = "trainer"; `auto` is token there, else none. Healthy: token; sequence has no bias below its cap
    and a variance that grows with length. Source: TIS (TRL: vllm_importance_sampling_mode; verl:
    rollout_is)."""
    weight_cap: float = Field(2.0, ge=1, le=1000)
    """The largest weight. Healthy: 2 to 5. Source: TRL vllm_importance_sampling_cap, verl
    rollout_is_threshold."""
    reject: Literal["none", "token", "sequence", "geometric"] = "none"
    """Take tokens, or answers as a whole, out of the policy term where rho leaves its bounds: masked importance
    sampling together with `weight`, rejection alone without. With old_policy = "sampler" rho is the policy's
    present ratio. Healthy: none; token against outliers; geometric with bounds near 1 against a bad engine.
    Source: IcePop (MIS); verl rollout_rs; TRL token_mask and sequence_mask."""
    reject_below: float = Field(0.5, ge=0, le=1)
    """The smallest rho that stays; 0 has no lower bound. Healthy: 0.5 of a token, 0.999 of a geometric mean."""
    reject_above: float = Field(5.0, ge=1, le=1000)
    """The largest rho that stays. Healthy: 2 to 5 of a token, 1.002 of a geometric mean."""

    max_age: int = Field(-1, ge=-1, le=64)
    """Take answers out of the policy term whose oldest token was drawn more than so many batches ago; -1 keeps
    all. Below `rollout.max_staleness` it drops what came too late. Healthy: -1. Unit: batches."""

    @model_validator(mode="after")
    def _one_correction_at_a_time(self) -> Self:
        if self.weight not in ("auto", "none") and self.old_policy == "sampler":
            raise ValueError(
                "weight would correct a second time what the ratio to the sampler corrects already; set "
                'old_policy = "trainer", or weight = "none"'
            )
        return self

    def resolved(self, max_staleness: int) -> Correction:
        """With `auto` as what it becomes. Raises ValueError as validation does."""
        old_policy, weight = self.old_policy, self.weight
        if old_policy == "auto":
            old_policy = "trainer" if max_staleness else "sampler"
        if weight == "auto":
            weight = "token" if old_policy == "trainer" else "none"
        data = self.model_dump() | {"old_policy": old_policy, "weight": weight}
        return Correction.model_validate(data)

    @property
    def acts(self) -> bool:
        """Whether the policy term is changed; of a resolved one."""
        return self.weight != "none" or self.reject != "none" or self.max_age >= 0
