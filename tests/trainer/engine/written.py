"""Learners on written rows of very different lengths, and their gradients."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from tests.trainer.engine.support import TINY, make_policy
from trainer.engine.dataset import Cursor, parts_encode, parts_load
from trainer.engine.job import LEARNERS
from trainer.engine.means import Means
from trainer.engine.reference import Reference
from trainer.engine.state import State
from trainer.registry import family
from trainer.spec import spec_parse
from trainer.specfile import with_overrides

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.engine.session import Session

BUDGETS = (1, 30, 70, 1 << 20)
"""Micro-batches of a row each, of a few, and one of everything."""


def written_rows(count: int = 9) -> list[dict[str, Any]]:
    draw = random.Random(4)

    def digits(length: int) -> str:
        return "".join(draw.choices("0123456789", k=length))

    return [
        {
            "prompt": f"sort {digits(draw.randint(1, 9))} = ",
            "chosen": "1" + digits(draw.randint(0, 12)),
            "rejected": "2" + digits(draw.randint(0, 12)),
            "completion": "3" + digits(draw.randint(0, 12)),
            "label": draw.random() < 0.6,
        }
        for _ in range(count)
    ]


def make_learner(
    session: Session, folder: Path, *overrides: str, rows: list[dict[str, Any]] | None = None
) -> tuple[Any, State]:
    """A learner on the rows, its reference another model than its policy."""
    path = folder / "rows.jsonl"
    rows = rows or written_rows()
    path.write_text("\n".join(json.dumps(row) for row in rows))
    data = {**TINY["data"], "train": [{"source": str(path)}], "eval": [{"source": str(path)}]}
    batch = {"prompts_per_step": len(rows)}
    spec = spec_parse(with_overrides({**TINY, "data": data, "batch": batch}, overrides))
    learns_from = spec.objective.learns_from
    policy = make_policy()
    parts = parts_load(spec.data.train, seed=0, learns_from=learns_from, datasets={})
    parts_encode(parts, policy, spec.data, learns_from)
    cursor = Cursor(parts, spec.curriculum, spec.seed)
    reference = Reference(partial(make_policy, seed=1))
    learner = LEARNERS[learns_from](session, spec, policy, reference, cursor)
    state = State(visited=cursor.start())
    learner.gather(state, Means())
    return learner, state


def gradient(learner: Any, state: State) -> tuple[float, torch.Tensor, dict[str, float]]:
    """Loss, gradient and metrics of one optimizer step, but for the padding, which goes by the split."""
    learner.policy.model.zero_grad()
    means, total = Means(), 0.0
    for loss in learner.losses(state, means):
        if loss.value.requires_grad:
            loss.value.backward()
        total += float(loss.value.detach())
        means.add_loss(loss)
    flat = [p.grad.flatten().clone() for p in learner.policy.model.parameters()]
    values = means.values()
    values.pop("batch/pad_frac", None)
    return total, torch.cat(flat), values


def objectives_of(learns_from: str) -> list[str]:
    """Every objective in the registry that learns from such rows with a language model."""
    return [
        tag
        for tag, method in family("objectives").items()
        if method.learns_from == learns_from and "score-head" not in method.needs
    ]
