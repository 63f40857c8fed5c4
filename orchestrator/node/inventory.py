"""What a machine has: processors, memory, disk, GPUs with their load, engines, methods."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import psutil

from trainer import registry

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "peft", "vllm", "numpy")
PROCESSES_MOST = 1
"""Training processes that this version starts for one run; placement believes it."""


def inventory(data_dir: Path) -> dict[str, Any]:
    """Everything, as JSON. Sizes in bytes, loads in percent, power in watts."""
    memory = psutil.virtual_memory()
    disk = shutil.disk_usage(data_dir)
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": psutil.cpu_count() or 1,
        "cpu_load": psutil.cpu_percent(),
        "memory": memory.total,
        "memory_used": memory.total - memory.available,
        "disk": disk.total,
        "disk_free": disk.free,
        "gpus": gpus(),
        "processes": PROCESSES_MOST,
        **_software(),
    }


@cache
def _software() -> dict[str, Any]:
    """What is installed and cannot change while we run; torch is never imported for it."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    engines = {"native": versions["torch"]} if "torch" in versions else {}
    if "vllm" in versions:
        engines["vllm"] = versions["vllm"]
    return {"versions": versions, "engines": engines, "methods": registry.hashes()}


def gpus() -> list[dict[str, Any]]:
    """The GPUs as NVIDIA's driver reports them; [] without one."""
    try:
        import pynvml  # noqa: PLC0415

        pynvml.nvmlInit()
    except Exception:
        # No library, no driver, no permission: this machine simply has no GPU to offer.
        return []
    allowed = _visible()
    try:
        return [
            _gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index), index)
            for index in range(pynvml.nvmlDeviceGetCount())
            if allowed is None or index in allowed
        ]
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _visible() -> set[int] | None:
    """The GPUs that this node was given by CUDA_VISIBLE_DEVICES; None when it may use all."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None or not all(part.strip().isdigit() for part in value.split(",") if part):
        return None
    return {int(part) for part in value.split(",") if part}


def _gpu(nvml: Any, handle: Any, index: int) -> dict[str, Any]:
    name = nvml.nvmlDeviceGetName(handle)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    found: dict[str, Any] = {
        "index": index,
        "name": name.decode() if isinstance(name, bytes) else name,
        "memory": int(memory.total),
        "used": int(memory.used),
        "utilisation": None,
        "power": None,
    }
    # Some cards do not count these.
    with contextlib.suppress(nvml.NVMLError):
        found["utilisation"] = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)
    with contextlib.suppress(nvml.NVMLError):
        found["power"] = round(nvml.nvmlDeviceGetPowerUsage(handle) / 1000, 1)
    return found
