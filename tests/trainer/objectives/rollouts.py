"""Batches of rollouts for the tests of policy objectives: ragged answers, everything filled in.

Legend: B answers, T answer tokens. Padding holds NaN, so a test that lets it through cannot stay green.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from trainer.engine.batches import Rollouts
from trainer.engine.means import Means
from trainer.registry import family

LENGTHS = (7, 3, 1, 5, 7, 2, 4, 6)
GROUPS = (0, 0, 0, 1, 1, 2, 2, 2)
ADVANTAGES = (1.2, -0.8, 0.5, -1.5, 0.9, -0.3, 0.4, -1.1)
MAX_NEW_TOKENS = 9
LEAVES = ("logp_BT", "entropy_BT", "value_BT")


def objective(tag: str, **knobs: Any) -> Any:
    """A policy objective by its tag."""
    return family("objectives")[tag](type=tag, **knobs)


def online_tags() -> list[str]:
    """Every registered objective that learns from rollouts: a new one is tested without a change here."""
    found = family("objectives").items()
    return [tag for tag, method in found if getattr(method, "learns_from", "") == "rollouts"]


def rollouts(*, seed: int = 3, spread: float = 0.4, padding: float = torch.nan) -> Rollouts:
    """Eight answers of three prompts; log-ratios of about `spread`, far enough for clips to bind."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LENGTHS), max(LENGTHS))
    mask_BT = torch.arange(shape[1])[None, :] < torch.tensor(LENGTHS)[:, None]

    def filled(values_BT: torch.Tensor) -> torch.Tensor:
        return torch.where(mask_BT, values_BT.double(), padding)

    old_BT = -3 * torch.rand(shape, generator=generator) - 0.2
    return Rollouts(
        mask_BT=mask_BT,
        old_logp_BT=filled(old_BT),
        advantage_BT=filled(torch.tensor(ADVANTAGES)[:, None].expand(shape)),
        group_B=torch.tensor(GROUPS),
        max_new_tokens=MAX_NEW_TOKENS,
        tokens=float(mask_BT.sum()),
        truncated_B=torch.tensor(LENGTHS) == max(LENGTHS),
        old_entropy_BT=filled(torch.rand(shape, generator=generator)),
        ref_logp_BT=filled(old_BT + 0.3 * torch.randn(shape, generator=generator)),
        logp_BT=filled(old_BT + spread * torch.randn(shape, generator=generator)),
        entropy_BT=filled(torch.rand(shape, generator=generator)),
        value_BT=filled(torch.randn(shape, generator=generator)),
        old_value_BT=filled(torch.randn(shape, generator=generator)),
        return_BT=filled(torch.randn(shape, generator=generator)),
    )


def taken(batch: Rollouts, index: Any) -> Rollouts:
    """The answers of `index`, in its order, as the engine cuts them."""
    changes: dict[str, Any] = {}
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, torch.Tensor):
            changes[field.name] = value[index]
    changes["term_weight_BT"] = {k: v[index] for k, v in batch.term_weight_BT.items()}
    return replace(batch, **changes)


def weighed(method: Any, batch: Rollouts) -> Rollouts:
    """With the weights that the engine computes on the whole optimizer batch."""
    whole = replace(batch, logp_BT=None, entropy_BT=None, value_BT=None)
    return replace(
        batch,
        weight_BT=method.token_weights(whole),
        term_weight_BT=dict(method.term_weights(whole)),
    )


def outcome(
    method: Any, batch: Rollouts, parts: list[list[int]] | None = None
) -> tuple[float, dict[str, torch.Tensor], dict[str, float]]:
    """Loss, gradients by leaf, 0 where masked out, and metrics, over the micro-batches `parts`."""
    batch = weighed(method, batch)
    leaves = {
        name: getattr(batch, name).clone().requires_grad_()
        for name in LEAVES
        if getattr(batch, name) is not None
    }
    batch = replace(batch, **leaves)
    means, total = Means(), 0.0
    for part in parts or [list(range(len(batch.mask_BT)))]:
        loss = method.loss(taken(batch, torch.tensor(part)))
        loss.value.backward()
        total += float(loss.value.detach())
        means.add_loss(loss)
    gradients = {
        name: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.where(batch.mask_BT, 0.0)
        for name, leaf in leaves.items()
    }
    return total, gradients, means.values()


@dataclass(frozen=True)
class Row:
    """One answer as plain numpy arrays (T,), for losses that are written apart from the trainer."""

    logp: np.ndarray
    fixed_logp: np.ndarray
    """`logp` as a constant: what a stop-gradient sees."""
    old: np.ndarray
    ref: np.ndarray
    advantage: np.ndarray


def by_hand(
    batch: Rollouts, row_losses: Callable[[Row], Any], aggregation: str
) -> tuple[float, np.ndarray]:
    """The aggregate of `row_losses` in plain loops, and its gradient (B, T) by central differences."""
    logp = batch.logp_BT.numpy().copy()

    def total(moved: np.ndarray) -> float:
        losses: list[np.ndarray] = []
        for b, length in enumerate(batch.mask_BT.sum(-1).tolist()):
            row = Row(
                moved[b, :length],
                logp[b, :length],
                batch.old_logp_BT[b, :length].numpy(),
                batch.ref_logp_BT[b, :length].numpy(),
                batch.advantage_BT[b, :length].numpy(),
            )
            losses.append(np.broadcast_to(row_losses(row), (length,)))
        if aggregation == "token-mean":
            return float(np.concatenate(losses).mean())
        if aggregation == "sequence-mean":
            return float(np.mean([row.mean() for row in losses]))
        if aggregation == "constant":
            return sum(float(row.sum()) for row in losses) / (len(losses) * batch.max_new_tokens)
        groups = batch.group_B.tolist()
        prompts = [
            np.concatenate([row for row, g in zip(losses, groups, strict=True) if g == group])
            for group in sorted(set(groups))
        ]
        return float(np.mean([prompt.mean() for prompt in prompts]))

    gradient = np.zeros_like(logp)
    for cell in batch.mask_BT.nonzero().tolist():
        up, down = logp.copy(), logp.copy()
        up[tuple(cell)] += 1e-5
        down[tuple(cell)] -= 1e-5
        gradient[tuple(cell)] = (total(up) - total(down)) / 2e-5
    return total(logp), gradient


def assert_by_hand(
    method: Any, row_losses: Callable[[Row], Any], batch: Rollouts | None = None
) -> dict[str, float]:
    """Value and gradient of every split equal the plain computation; returns the metrics."""
    batch = rollouts() if batch is None else batch
    wanted, gradient = by_hand(batch, row_losses, method.aggregation)
    for parts in SPLITS:
        loss, found, metrics = outcome(method, batch, parts)
        assert abs(loss - wanted) <= 1e-6 * abs(wanted)
        assert np.abs(found["logp_BT"].numpy() - gradient).max() <= 1e-6 * np.abs(gradient).max()
    return metrics


SPLITS = [
    [[0, 1, 2, 3, 4, 5, 6, 7]],
    [[0, 1, 2, 3], [4, 5, 6, 7]],
    [[5], [0, 7], [2, 1, 4, 6], [3]],
    [[0], [1], [2], [3], [4], [5], [6], [7]],
]
"""The whole optimizer batch, halves, ragged micro-batches out of order, single answers."""
