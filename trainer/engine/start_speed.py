"""How fast this machine is at the start of a run: what the plan's arithmetic divides by.

Legend: R rows, T row tokens, H hidden size.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from trainer.engine.policy import Policy

ENOUGH = 0.5
"""Seconds after which a pass is not repeated."""


def decode_seconds(policy: Policy) -> float:
    """Seconds of one forward pass over one token: the least that a decoding step takes, however few answers.

    The best of three, since the first one may load kernels. Changes nothing of the model.
    """
    ids_RT = torch.zeros(1, 1, dtype=torch.long, device=policy.device)
    best, was_training = float("inf"), policy.model.training
    # As the sampler does it: dropout would draw.
    policy.model.eval()
    try:
        with torch.no_grad(), policy.autocast():
            for _ in range(3):
                start = time.perf_counter()
                # Reading a number waits for the device.
                float(policy.head(policy.hidden_RTH(ids_RT, ids_RT, None))[0, 0, 0])
                spent = time.perf_counter() - start
                best = min(best, spent)
                if spent > ENOUGH:
                    break
    finally:
        policy.model.train(was_training)
    return best
