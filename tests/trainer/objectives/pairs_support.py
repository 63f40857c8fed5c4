"""Ragged preference pairs, and a check of a loss against a formula written in plain numpy.

The formula sees the log-probabilities of each answer's tokens, so that sums, means and masks are checked
too; its gradient is taken by central differences in float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trainer.engine.batches import Pairs
from trainer.registry import family

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.registry import Loss

CHOSEN_LENGTHS = (7, 3, 1, 5, 4)
REJECTED_LENGTHS = (2, 6, 4, 1, 4)
WIDTH = 8
STEP = 1e-5


@dataclass
class Case:
    """Log-probabilities of the tokens of chosen (w) and rejected (l) answers, one array per answer."""

    w: list[np.ndarray]
    l: list[np.ndarray]  # noqa: E741
    ref_w: list[np.ndarray]
    ref_l: list[np.ndarray]
    collision_w: list[np.ndarray]
    collision_l: list[np.ndarray]

    @property
    def c(self) -> np.ndarray:
        """Log ratios of the chosen answers."""
        return sums(self.w) - sums(self.ref_w)

    @property
    def r(self) -> np.ndarray:
        """Log ratios of the rejected answers."""
        return sums(self.l) - sums(self.ref_l)


def sums(answers: list[np.ndarray]) -> np.ndarray:
    return np.array([tokens.sum() for tokens in answers])


def means(answers: list[np.ndarray]) -> np.ndarray:
    return np.array([tokens.mean() for tokens in answers])


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -x)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def make_case(seed: int = 0) -> Case:
    draw = np.random.default_rng(seed)

    def answers(lengths: tuple[int, ...]) -> list[np.ndarray]:
        return [-3 * draw.random(n) for n in lengths]

    w, rejected = answers(CHOSEN_LENGTHS), answers(REJECTED_LENGTHS)
    return Case(
        w,
        rejected,
        [x + 0.5 * draw.standard_normal(len(x)) for x in w],
        [x + 0.5 * draw.standard_normal(len(x)) for x in rejected],
        [-1.5 * draw.random(len(x)) for x in w],
        [-1.5 * draw.random(len(x)) for x in rejected],
    )


def padded(answers: list[np.ndarray]) -> torch.Tensor:
    """float32 (B, T); NaN where there is no token."""
    table = torch.full((len(answers), WIDTH), torch.nan)
    for row, tokens in enumerate(answers):
        table[row, : len(tokens)] = torch.tensor(tokens, dtype=torch.float32)
    return table


def batch_of(case: Case, objective: Any, **dials: float) -> Pairs:
    """The batch as the engine would make it; its log-probabilities are leaves."""
    chosen_BT, rejected_BT = padded(case.w), padded(case.l)
    batch = Pairs(
        ~chosen_BT.isnan(),
        ~rejected_BT.isnan(),
        torch.full((len(case.w),), 1 / len(case.w)),
        chosen_logp_BT=chosen_BT.requires_grad_(),
        rejected_logp_BT=rejected_BT.requires_grad_(),
        chosen_collision_BT=padded(case.collision_w),
        rejected_collision_BT=padded(case.collision_l),
        dials=dials,
    )
    chosen, rejected = batch.chosen_mask_BT, batch.rejected_mask_BT
    batch.chosen_score_weight_BT = objective.score_weights(chosen, rejected)
    batch.rejected_score_weight_BT = objective.score_weights(rejected, chosen)
    batch.nll_weight_BT = objective.token_weights(batch)
    if "reference" in objective.uses:
        batch.ref_chosen_score_B = _score(case.ref_w, batch.chosen_score_weight_BT)
        batch.ref_rejected_score_B = _score(case.ref_l, batch.rejected_score_weight_BT)
    return batch


def _score(answers: list[np.ndarray], weight_BT: torch.Tensor) -> torch.Tensor:
    return (weight_BT * padded(answers).nan_to_num(0.0)).sum(-1)


def make(tag: str, **knobs: Any) -> Any:
    return family("objectives")[tag](type=tag, **knobs)


def run(
    case: Case, objective: Any, **dials: float
) -> tuple[Loss, tuple[torch.Tensor, torch.Tensor]]:
    """The loss and its gradient with respect to the tokens of both answers."""
    batch = batch_of(case, objective, **dials)
    loss = objective.loss(batch)
    assert batch.chosen_logp_BT is not None and batch.rejected_logp_BT is not None
    gradients = torch.autograd.grad(loss.value, (batch.chosen_logp_BT, batch.rejected_logp_BT))
    return loss, gradients


def assert_golden(
    tag: str,
    formula: Callable[[Case], float],
    *,
    case: Case | None = None,
    dials: dict[str, float] | None = None,
    **knobs: Any,
) -> None:
    """Value and gradient equal those of the formula; padding gets exactly none."""
    case = case or make_case()
    loss, gradients = run(case, make(tag, **knobs), **(dials or {}))
    np.testing.assert_allclose(float(loss.value.detach()), formula(case), rtol=2e-6)
    for answers, gradient in zip((case.w, case.l), gradients, strict=True):
        for row, tokens in enumerate(answers):
            assert bool((gradient[row, len(tokens) :] == 0).all())
            for place in range(len(tokens)):
                before = tokens[place]
                tokens[place] = before + STEP
                above = formula(case)
                tokens[place] = before - STEP
                below = formula(case)
                tokens[place] = before
                wanted = (above - below) / (2 * STEP)
                np.testing.assert_allclose(
                    float(gradient[row, place]), wanted, rtol=2e-4, atol=2e-6
                )


def mean_of(loss: Loss, key: str) -> float:
    total, count = loss.means[key]
    return total / count
