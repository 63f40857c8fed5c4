"""What the spec says about sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from trainer.methods import BASIC
from trainer.section import Section


class Rollout(Section):
    """How answers are sampled."""

    engine: Literal["auto", "native", "vllm"] = "auto"
    """What samples: `native` is the trainer's own, `vllm` needs trainer/requirements-vllm.txt and samples with
    a copy of the weights; `auto` picks and says why."""
    placement: Literal["colocated", "server"] = "colocated"
    """Where it samples: in the trainer's process, or in processes of its own beside it that are handed the
    weights (TRL: vllm_mode). Healthy: colocated; server where sampling and learning
    are to overlap or several GPUs are there."""
    replicas: int = Field(1, ge=1, le=64)
    """Processes that sample side by side, each with a copy of the weights; for `placement` = "server".
    Healthy: 1; as many as there are GPUs or cores to spare. Unit: processes."""
    weight_transport: Literal["auto", "shared-memory", "broadcast"] = "auto"
    """How a `placement` of "server" is handed the weights: through memory that the processes share, or by a
    broadcast of torch.distributed (NCCL from GPU to GPU, gloo on a CPU), which waits until each of them has come
    to the end of a token; auto broadcasts where each process has a GPU of its own. Healthy: auto."""
    tensor_parallel: int = Field(1, ge=1, le=64)
    """GPUs that hold one copy of vLLM's model in parts; for `placement` = "server". Healthy: 1 where the
    model fits one GPU. Unit: GPUs."""
    sleep_level: int = Field(0, ge=0, le=2)
    """What a colocated vLLM gives back of the GPU's memory while the trainer learns (TRL:
    vllm_enable_sleep_mode): 0 nothing, 1 its cache and, to host memory, its weights, 2 both, and the weights
    are handed over anew. A CPU has nothing to give back. Healthy: 0; 1 or 2 where memory is short."""
    memory_share: float = Field(0.3, gt=0, lt=1)
    """Share of the GPU's memory that vLLM takes for its copy of the weights and its cache; a CPU gets what
    one step needs. Healthy: 0.2 to 0.5. Unit: share."""
    max_staleness: int = Field(0, ge=0, le=64)
    """Batches that may be learned from between the drawing of an answer's oldest token and its own turn; 0 draws,
    then learns. Above 0 a generator's process draws ahead, gets new weights in the middle of its answers, and
    waits where it would be further ahead. For `placement` = "server". Healthy: 0; 1 to 4 where sampling and
    learning take turns. Unit: batches. Source: AReaL, arXiv 2505.24298 (eta)."""
    group_size: int = Field(8, ge=1, le=1024, json_schema_extra=BASIC)
    """Answers sampled for each prompt (TRL: num_generations). Healthy: 8 to 16."""
    max_new_tokens: int = Field(32, ge=1, json_schema_extra=BASIC)
    """Longest answer. Unit: tokens."""
    temperature: float = Field(1.0, gt=0, le=10, json_schema_extra={**BASIC, "live": True})
    """Logits are divided by this before sampling and in the loss alike. Healthy: 0.7 to 1."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling keeps the likeliest tokens that sum to this mass. Healthy: 1 in training: the
    log-probabilities of the kept set are used on both sides."""
    top_k: int = Field(0, ge=0)
    """Only so many of the likeliest tokens are drawn, before top_p; 0 keeps all. Healthy: 0 in training."""
    min_p: float = Field(0.0, ge=0, lt=1)
    """Tokens less likely than this share of the likeliest one are never drawn, after top_k and top_p; 0 keeps
    all. Healthy: 0 in training, 0.05 where rare tokens spoil answers. Source: arXiv 2407.01082."""
