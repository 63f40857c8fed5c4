"""Sampler against trainer: how far apart they are, and the weights that make it good.

Legend of shape suffixes: B answers, T answer tokens, 1 where a value belongs to the answer as a whole, M the
tokens that there are, in one row. rho = pi_old / pi_sampler; `log_rho` is 0 where `mask` is off.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainer.correction import Correction, Level
    from trainer.engine.means import Means
    from trainer.engine.ranks import Ranks
    from trainer.engine.session import Session

HIGHEST_LOG = 20.0
"""Beyond it a ratio is as far off as any, and exp of it still is a number (verl: SAFETY_BOUND)."""
GEN_KL_MOST, MULT_PROB_MOST = 1e-3, 1.02
"""NeMo-RL's thresholds: above them something is wrong with sampler or trainer."""


def rho_of(log_rho_BT: torch.Tensor, mask_BT: torch.Tensor, level: Level) -> torch.Tensor:
    """rho (B, T), the same along an answer for all levels but `token`; 1 for an answer without tokens."""
    if level != "token":
        total_B1 = log_rho_BT.sum(-1, keepdim=True)
        if level == "geometric":
            total_B1 = total_B1 / mask_BT.sum(-1, keepdim=True).clamp(min=1)
        log_rho_BT = total_B1.expand_as(log_rho_BT)
    return log_rho_BT.clamp(-HIGHEST_LOG, HIGHEST_LOG).exp()


def correction_weights(
    log_rho_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    plan: Correction,
    age_B: torch.Tensor | None = None,
) -> torch.Tensor:
    """What the policy term of each token is multiplied by (B, T); float32, without gradient."""
    log_rho_BT = torch.where(mask_BT, log_rho_BT.detach(), 0.0)
    weight_BT = torch.ones_like(log_rho_BT)
    if plan.weight != "none":
        weight_BT = rho_of(log_rho_BT, mask_BT, plan.weight).clamp(max=plan.weight_cap)
    if plan.reject != "none":
        rho_BT = rho_of(log_rho_BT, mask_BT, plan.reject)
        stays_BT = (rho_BT >= plan.reject_below) & (rho_BT <= plan.reject_above)
        weight_BT = torch.where(stays_BT, weight_BT, 0.0)
    if plan.max_age >= 0 and age_B is not None:
        weight_BT = torch.where((age_B <= plan.max_age)[:, None], weight_BT, 0.0)
    return weight_BT


class Mismatch:
    """What the answers of one update tell about the gap, before anything is rejected."""

    def __init__(self, plan: Correction) -> None:
        self.plan = plan
        self._tokens = self._gap = self._kl = self._factor = 0.0
        self._worst = 0.0
        self._rho = [0.0, 0.0, 0.0]
        """Sum, sum of squares and count."""
        self._least, self._most = math.inf, -math.inf
        self._capped = self._rejected = 0.0

    def add(self, logp_BT: torch.Tensor, sampler_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        """The tokens of a micro-batch: under the trainer, and as they were recorded."""
        gap_M = (logp_BT - sampler_BT)[mask_BT].double()
        if not len(gap_M):
            return
        self._tokens += len(gap_M)
        self._gap += float(gap_M.abs().sum())
        self._worst = max(self._worst, float(gap_M.abs().max()))
        near_M = gap_M.clamp(-HIGHEST_LOG, HIGHEST_LOG)
        # k3 of KL(sampler || trainer): the answers are the sampler's.
        self._kl += float((near_M.exp() - near_M - 1).sum())
        self._factor += float(near_M.abs().exp().sum())
        log_rho_BT = torch.where(mask_BT, logp_BT - sampler_BT, 0.0)
        self._add_rho(log_rho_BT, mask_BT)

    def _add_rho(self, log_rho_BT: torch.Tensor, mask_BT: torch.Tensor) -> None:
        plan = self.plan
        level = plan.weight if plan.weight != "none" else "token"
        rho_BT = rho_of(log_rho_BT, mask_BT, level).double()
        some_B = mask_BT.any(-1)
        rho_M = rho_BT[mask_BT] if level == "token" else rho_BT[some_B, 0]
        found = (float(rho_M.sum()), float((rho_M**2).sum()), float(len(rho_M)))
        self._rho = [before + more for before, more in zip(self._rho, found, strict=True)]
        self._least = min(self._least, float(rho_M.min()))
        self._most = max(self._most, float(rho_M.max()))
        if plan.weight != "none":
            self._capped += float((rho_BT[mask_BT] > plan.weight_cap).sum())
        if plan.reject != "none":
            rejecting_BT = rho_of(log_rho_BT, mask_BT, plan.reject)
            out_BT = (rejecting_BT < plan.reject_below) | (rejecting_BT > plan.reject_above)
            self._rejected += float(out_BT[mask_BT].sum())

    def over(self, ranks: Ranks) -> None:
        """Join with what the other ranks have seen."""
        if ranks.alone:
            return
        sums = [self._tokens, self._gap, self._kl, self._factor, self._capped, self._rejected]
        note = {
            "sums": [*sums, *self._rho],
            "most": [self._worst, self._most],
            "least": self._least,
        }
        notes = [note for _, note in ranks.gather({}, note)]
        totals = [sum(column) for column in zip(*(note["sums"] for note in notes), strict=True)]
        self._tokens, self._gap, self._kl, self._factor, self._capped, self._rejected = totals[:6]
        self._rho = totals[6:]
        self._worst, self._most = (
            max(column) for column in zip(*(note["most"] for note in notes), strict=True)
        )
        self._least = min(note["least"] for note in notes)

    @property
    def gen_kl(self) -> float:
        """KL(sampler || trainer), nats a token; 0 before any token came."""
        return self._kl / self._tokens if self._tokens else 0.0

    @property
    def mult_prob_error(self) -> float:
        """Mean factor between the two probabilities of a token."""
        return self._factor / self._tokens if self._tokens else 1.0

    def report(self, means: Means) -> None:
        """The gap, under TRL's and NeMo's names."""
        if not self._tokens:
            return
        means.add("rollout/logp_diff_mean", self._gap, self._tokens)
        means.highest("rollout/logp_diff_max", self._worst)
        means.add("gen_kl_error", self._kl, self._tokens)
        means.add("token_mult_prob_error", self._factor, self._tokens)
        total, squares, count = self._rho
        means.add("sampling/importance_sampling_ratio/mean", total, count)
        means.highest("sampling/importance_sampling_ratio/max", self._most)
        means.lowest("sampling/importance_sampling_ratio/min", self._least)
        if squares:
            means.add("sampling/ess", total**2 / squares, count)
        if self.plan.weight != "none":
            means.add("correction/capped_frac", self._capped, self._tokens)

    def report_rejected(self, means: Means) -> None:
        """How many tokens were rejected, in each update where rejection goes by the present ratio."""
        if self.plan.reject != "none" and self._tokens:
            means.add("correction/rejected_frac", self._rejected, self._tokens)


class MismatchAlarm:
    """Says once that sampler and trainer are apart, and again only after they were not."""

    def __init__(self) -> None:
        self._rings = False

    def look(self, found: Mismatch, session: Session, stale: int) -> None:
        """`stale`: versions by which the oldest answer's weights are behind."""
        kl, factor = found.gen_kl, found.mult_prob_error
        if kl <= GEN_KL_MOST and factor <= MULT_PROB_MOST:
            self._rings = False
            return
        if self._rings:
            return
        self._rings = True
        session.report.alert("warning", "mismatch", _words(found, stale), data={"gen_kl_error": kl})


def _words(found: Mismatch, stale: int) -> str:
    kl, factor, plan = found.gen_kl, found.mult_prob_error, found.plan
    said = (
        f"sampler and trainer are apart: generation KL {kl:.2g} nats a token (healthy: up to {GEN_KL_MOST:g}), "
        f"probabilities differ by {100 * (factor - 1):.2g} % on average (healthy: up to 1 %); "
    )
    if stale:
        said += f"answers are up to {stale} batch{'es' if stale > 1 else ''} old; "
    else:
        said += "weights are the same, so it is arithmetic; "
    if plan.weight != "none":
        return said + f"{plan.weight} weights make it good, up to correction.weight_cap"
    remedy = 'correction.old_policy = "trainer" with correction.weight = "token"'
    if stale:
        return said + f"{remedy} makes it good, or lower rollout.max_staleness"
    return said + f"use float32 for sampling, the native engine, or {remedy}"
