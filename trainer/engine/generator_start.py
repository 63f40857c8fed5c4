"""What a generator's process is given: its place, its threads, what it must know, and which weights."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from trainer.engine.adapted import ADAPTER_CONFIG, adapter_config, adapter_weights, is_adapted
from trainer.engine.vllm_engine import Build, base_weights

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trainer.engine.policy import Policy
    from trainer.spec import RunSpec


def engine_of(spec: RunSpec) -> str:
    """Which engine samples there: vLLM where the spec names it."""
    return spec.rollout.engine if spec.rollout.engine == "vllm" else "native"


def hello(spec: RunSpec, policy: Policy, probe: Sequence[int], folder: str) -> dict[str, Any]:
    """What a replica must know; its model's configuration lies in the folder."""
    name, model = engine_of(spec), policy.model
    model.config.save_pretrained(folder)
    adapter = ""
    if is_adapted(model):
        adapter = adapter_config(model, "base")
        (Path(folder) / ADAPTER_CONFIG).write_text(adapter)
    native = {
        "dtype": str(policy.dtype).removeprefix("torch."),
        "eos_ids": list(policy.eos_ids),
        "pad_id": policy.pad_id,
        "attention": getattr(model.config, "_attn_implementation", None),
        "trust_remote_code": spec.model.trust_remote_code,
        "adapter": bool(adapter),
    }
    build = None
    if name == "vllm":
        build = asdict(Build.of(spec, policy, replicas=spec.rollout.replicas))
    return {
        "op": "hello",
        "engine": name,
        "device": policy.device.type,
        "threads": torch.get_num_threads(),
        "watcher": os.getppid(),
        "folder": folder,
        "probe": list(probe),
        "adapter": adapter,
        "native": native,
        "vllm": build,
    }


def base_weights_of(policy: Policy, engine: str) -> dict[str, torch.Tensor]:
    """What never changes in this run: frozen weights, and buffers that belong to the model's state."""
    model = policy.model
    if engine == "vllm":
        return _lowered(policy, base_weights(model)) if is_adapted(model) else {}
    kept = model.state_dict().keys()
    frozen = {n: p for n, p in model.named_parameters() if not p.requires_grad}
    return frozen | {name: each for name, each in model.named_buffers() if name in kept}


def moving_weights_of(policy: Policy, engine: str) -> dict[str, torch.Tensor]:
    """What is trained: each tensor once, tied ones once, in the precision that the engine keeps."""
    model = policy.model
    if engine == "native":
        return dict(policy.parameters())
    return adapter_weights(model) if is_adapted(model) else _lowered(policy, base_weights(model))


def _lowered(policy: Policy, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: each.detach().to(policy.dtype) for name, each in tensors.items()}


def broadcasts(spec: RunSpec, device: torch.device) -> bool:
    """Whether weights go by broadcast, as `rollout.weight_transport` says.

    Raises ValueError where NCCL would have two processes on one GPU.
    """
    wanted = spec.rollout.weight_transport
    if device.type != "cuda":
        return wanted == "broadcast"
    apart = torch.cuda.device_count() > spec.rollout.replicas and dist.is_nccl_available()
    if wanted == "broadcast" and not apart:
        raise ValueError(
            "rollout.weight_transport: a broadcast needs a GPU for each of rollout.replicas and one for the "
            'trainer; set it to "shared-memory", or raise resources.gpus'
        )
    return apart and wanted != "shared-memory" and spec.rollout.tensor_parallel == 1


def environment(spec: RunSpec, device: torch.device, number: int) -> dict[str, str]:
    """Threads as the trainer's, and the GPUs of a replica: others than the trainer's where there are several.

    Raises ValueError when a model in parts has fewer GPUs than parts.
    """
    env = {"OMP_NUM_THREADS": str(spec.resources.cpus), "OMP_WAIT_POLICY": "PASSIVE"}
    if device.type == "cuda":
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        every = [str(index) for index in range(torch.cuda.device_count())]
        names = visible.split(",") if visible else every
        own, wanted = device.index or 0, spec.rollout.tensor_parallel
        others = [name for index, name in enumerate(names) if index != own] or names
        if wanted > len(others):
            raise ValueError(
                f"rollout.tensor_parallel: a model in {wanted} parts wants as many GPUs, and beside the "
                f"trainer's there are {len(others)}; lower it, or raise resources.gpus"
            )
        first = number * wanted
        mine = [others[(first + place) % len(others)] for place in range(wanted)]
        env["CUDA_VISIBLE_DEVICES"] = ",".join(mine)
    return env
