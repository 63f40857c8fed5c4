"""Coefficients that move while a run goes on: pure functions of the step before."""

import math
from collections.abc import Mapping
from typing import Literal

BetaSchedule = Literal["constant", "linear", "cosine", "target"]
BETA_CEILING = 10.0
"""The highest weight of the KL term, also the bound of the knob: the controller compounds, and where KL
cannot fall it would grow without end."""


def scheduled_beta(start: float, end: float, schedule: BetaSchedule, progress: float) -> float:
    """From `start` to `end` as `progress` goes from 0 to 1, in a line or along half a cosine."""
    if schedule == "constant":
        return start
    if schedule == "linear":
        return start + (end - start) * progress
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def steered_beta(beta: float, kl: float | None, target: float, gain: float) -> float:
    """beta (1 + gain clip(kl / target - 1, -0.2, 0.2)): arXiv 1909.08593, section 2.2 (gain 0.1).

    There KL is of whole answers, here per token: `target` is too.
    """
    if kl is None or not math.isfinite(kl):
        return beta
    error = min(0.2, max(-0.2, kl / target - 1))
    return min(BETA_CEILING, beta * (1 + gain * error))


def steered_entropy(
    before: Mapping[str, float],
    entropy: float | None,
    *,
    start: float,
    target: float,
    step: float,
    ceiling: float,
) -> dict[str, float]:
    """Skywork-OR1's controller (arXiv 2505.22312, adaptive entropy control), as TRL has it.

    After a step whose entropy is at or below the target the coefficient rises by `step`, else it falls,
    within [0, ceiling]; it is applied only behind a step that was at or below the target, so never in
    the first. `entropy_coef` is the running value, `entropy_coef_applied` what multiplies the bonus.
    """
    if not before:
        return {"entropy_coef": start, "entropy_coef_applied": 0.0}
    running = before.get("entropy_coef", start)
    if entropy is None or not math.isfinite(entropy):
        return {"entropy_coef": running, "entropy_coef_applied": 0.0}
    low = entropy <= target
    running = min(running + step, ceiling) if low else max(running - step, 0.0)
    return {"entropy_coef": running, "entropy_coef_applied": running if low else 0.0}
