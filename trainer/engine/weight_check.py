"""Whether what samples has the policy's weights: both say how likely the tokens of one prompt are.

Legend: T tokens of the probe, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from trainer.engine.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.engine.policy import Policy

PROBE_TOKENS = 64
TOLERANCE = {"float32": 1e-3, "float16": 0.03, "bfloat16": 0.15}
"""Mean difference of log-probabilities, nats: what two implementations in that precision may differ by."""


def probe_logps(policy: Policy, probe: Sequence[int]) -> list[float]:
    """Log-probability of each token of the probe but the first, by the policy as it stands."""
    ids_1T = torch.tensor([list(probe)], device=policy.device)
    was_training = policy.model.training
    policy.model.eval()
    try:
        with torch.no_grad(), policy.autocast():
            logits_TV = policy.model(input_ids=ids_1T, use_cache=False).logits[0, :-1]
    finally:
        policy.model.train(was_training)
    logp_TV = logits_TV.float().log_softmax(-1)
    found: list[float] = logp_TV.gather(1, ids_1T[0, 1:, None])[:, 0].tolist()
    return found


def difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Mean absolute difference, nats a token; NaN counts as inf."""
    gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    mean = math.fsum(gaps) / len(gaps) if all(map(math.isfinite, gaps)) else math.inf
    return mean


def trusted(gap: float, dtype: str, engine: str) -> None:
    """Raises Failure when the sides differ by more than the precision of sampling explains."""
    if gap < TOLERANCE.get(dtype, TOLERANCE["bfloat16"]):
        return
    names = {"vllm": "vLLM"}
    way_out = "Use native, or report this model." if engine == "vllm" else "Report this model."
    raise Failure(
        "weight-sync",
        f"rollout.engine: after the weights were handed over, {names.get(engine, engine)} and the trainer "
        f"differ by {gap:.3g} nats a token on the same prompt ({dtype}); samples would not be the "
        f"policy's. {way_out}",
    )
