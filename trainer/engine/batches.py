"""What a loss is given: batches of log-probabilities.

Legend of shape suffixes: B sequences (or pairs) of this micro-batch, T answer tokens (padded on the
right), N sequences of the whole optimizer batch, K scores of an answer. A batch is first built whole,
without log-probabilities, to compute its weights (`Objective.token_weights`); micro-batches are slices of
it and only sum. Masked-out cells of every tensor are undefined, NaN included: use `where`, not a product.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass, field

import torch


@dataclass
class Rollouts:
    """Sampled answers, for objectives that learn from rollouts."""

    mask_BT: torch.Tensor
    """bool: answer tokens, the end-of-sequence token included."""
    old_logp_BT: torch.Tensor
    """Log-probabilities under the policy that ratios compare with, float32: the one that sampled, or the
    trainer's before its first update on the batch."""
    advantage_BT: torch.Tensor
    """Advantage of each token; the same along an answer unless the estimator tells tokens apart."""
    group_B: torch.Tensor
    """Integer id of the prompt's group."""
    max_new_tokens: int
    tokens: float = 0.0
    """Answer tokens of the whole optimizer batch."""
    dials: Mapping[str, float] = field(default_factory=dict)
    """Coefficients of this step (`Objective.dials`)."""
    truncated_B: torch.Tensor | None = None
    """bool: cut off at max_new_tokens."""
    old_entropy_BT: torch.Tensor | None = None
    """Entropy of the distribution that was sampled from, nats."""
    ref_logp_BT: torch.Tensor | None = None
    weight_BT: torch.Tensor | None = None
    """What `token_weights` returned."""
    term_weight_BT: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """What `term_weights` returned."""
    logp_BT: torch.Tensor | None = None
    """Log-probabilities under the current policy, with gradient."""
    entropy_BT: torch.Tensor | None = None
    """Entropy of the current policy, nats; with gradient where the objective uses "entropy"."""
    value_BT: torch.Tensor | None = None
    """The critic's values, with gradient."""
    old_value_BT: torch.Tensor | None = None
    """The critic's values when the answers were sampled."""
    return_BT: torch.Tensor | None = None
    """What the critic is trained towards."""
    sampler_logp_BT: torch.Tensor | None = None
    """Log-probabilities as recorded while sampling, where `old_logp_BT` is the trainer's."""
    age_B: torch.Tensor | None = None
    """Batches that were learned from since the oldest token was drawn; None: none."""
    correction_BT: torch.Tensor | None = None
    """What the policy term of each token is multiplied by, for a sampler that was not the policy."""

    @property
    def advantage_B(self) -> torch.Tensor:
        """One advantage per answer: the mean over its tokens."""
        total_B = torch.where(self.mask_BT, self.advantage_BT, 0.0).sum(-1)
        return total_B / self.mask_BT.sum(-1).clamp(min=1)


@dataclass
class Pairs:
    """Preferred and rejected answers of the same prompts. A score is sum_t score_weight_t logp_t."""

    chosen_mask_BT: torch.Tensor
    rejected_mask_BT: torch.Tensor
    pair_weight_B: torch.Tensor
    """1 / pairs of the optimizer batch."""
    chosen_score_weight_BT: torch.Tensor | None = None
    """What `score_weights` returned for the chosen answers."""
    rejected_score_weight_BT: torch.Tensor | None = None
    nll_weight_BT: torch.Tensor | None = None
    """What `token_weights` returned: normalised weights of the chosen answers' tokens."""
    chosen_logp_BT: torch.Tensor | None = None
    rejected_logp_BT: torch.Tensor | None = None
    ref_chosen_score_B: torch.Tensor | None = None
    """Score of the chosen answer under the reference."""
    ref_rejected_score_B: torch.Tensor | None = None
    chosen_collision_BT: torch.Tensor | None = None
    """log sum_v p(v)^2 of the current policy, without gradient (`uses` "collision")."""
    rejected_collision_BT: torch.Tensor | None = None
    dials: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Labelled:
    """Answers that somebody called good or bad, unpaired."""

    mask_BT: torch.Tensor
    good_B: torch.Tensor
    """bool"""
    weight_B: torch.Tensor
    """1 / answers of the optimizer batch."""
    score_weight_BT: torch.Tensor | None = None
    logp_BT: torch.Tensor | None = None
    ref_score_B: torch.Tensor | None = None
    good_N: float = 0.0
    """Good answers of the whole optimizer batch."""
    bad_N: float = 0.0
    other_score_N: torch.Tensor | None = None
    """Scores of other rows' answers behind the prompts of the whole optimizer batch, without gradient:
    they estimate the KL (`uses` "mismatched"). None where there is no other row."""
    ref_other_score_N: torch.Tensor | None = None
    dials: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Demonstrations:
    """Prompts with the answer to imitate."""

    mask_BT: torch.Tensor
    """bool: tokens that are trained on; of a conversation the assistant's."""
    weight_BT: torch.Tensor | None = None
    logp_BT: torch.Tensor | None = None
    entropy_BT: torch.Tensor | None = None
    correct_BT: torch.Tensor | None = None
    """bool: the likeliest token is the demonstrated one."""
    dials: Mapping[str, float] = field(default_factory=dict)


@dataclass
class RankedScores:
    """Scores of a reward model for preference pairs."""

    chosen_score_B: torch.Tensor
    rejected_score_B: torch.Tensor
    pair_weight_B: torch.Tensor
    """1 / pairs of the optimizer batch."""
    margin_B: torch.Tensor | None = None
    """How much better the chosen answer is said to be; NaN where the row does not say."""


@dataclass
class RatedScores:
    """Scores of a reward model for rated answers, one column per rated quality."""

    score_BK: torch.Tensor
    rating_BK: torch.Tensor
    """NaN = not rated."""
    weight_BK: torch.Tensor
    """1 / known ratings of the optimizer batch; 0 where not rated."""
