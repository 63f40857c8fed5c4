"""The GPUs of this machine as NVIDIA's driver tells of them (NVML): what they are, and how loaded."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NO_GPU = ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED")
"""Names of the errors of machines that simply have no GPU to offer. Every other one is worth telling."""


def gpu_report() -> dict[str, Any]:
    """`gpus`, and where there is a driver `driver`, `cuda` and, when it does not work, `gpu_problem`.

    Of each GPU: index, uuid, name; memory and used in bytes; utilisation in percent, power and power_limit in
    watts, temperature in degrees Celsius. None for what a card does not count.
    """
    try:
        import pynvml as nvml  # noqa: PLC0415
    except ImportError:
        return {"gpus": []}
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return {"gpus": []} | _problem(nvml, error)
    try:
        return {"gpus": _gpus(nvml), **_versions(nvml)}
    except nvml.NVMLError as error:
        # A card that fell off the bus, a driver that is being exchanged: the rest of the machine works on.
        return {"gpus": []} | _versions(nvml) | _problem(nvml, error)
    finally:
        with contextlib.suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def gpus() -> list[dict[str, Any]]:
    """The GPUs that this node may use; [] without one."""
    found: list[dict[str, Any]] = gpu_report()["gpus"]
    return found


def _gpus(nvml: Any) -> list[dict[str, Any]]:
    allowed = _visible()
    found = [
        _gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index), index)
        for index in range(nvml.nvmlDeviceGetCount())
    ]
    return [gpu for gpu in found if allowed is None or _is_among(gpu, allowed)]


def _visible() -> list[str] | None:
    """The indices and UUIDs that CUDA_VISIBLE_DEVICES leaves to this node; None when it may use all."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",") if part.strip()]
    return parts if all(part.isdigit() or part.startswith("GPU-") for part in parts) else None


def _is_among(gpu: dict[str, Any], allowed: list[str]) -> bool:
    """Whether a GPU is named, by its index or by the beginning of its UUID."""
    return any(part == str(gpu["index"]) or gpu["uuid"].startswith(part) for part in allowed)


def _gpu(nvml: Any, handle: Any, index: int) -> dict[str, Any]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)

    def told(read: Callable[[], Any]) -> Any:
        """What the card counts of this; None when it does not."""
        try:
            return read()
        except nvml.NVMLError:
            return None

    utilisation = told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
    power = told(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
    limit = told(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    heat = told(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))
    return {
        "index": index,
        "uuid": _text(told(lambda: nvml.nvmlDeviceGetUUID(handle)) or ""),
        "name": _text(nvml.nvmlDeviceGetName(handle)),
        "memory": int(memory.total),
        "used": int(memory.used),
        "utilisation": None if utilisation is None else int(utilisation.gpu),
        "power": None if power is None else round(power / 1000, 1),
        "power_limit": None if limit is None else round(limit / 1000, 1),
        "temperature": None if heat is None else int(heat),
    }


def _versions(nvml: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with contextlib.suppress(nvml.NVMLError):
        found["driver"] = _text(nvml.nvmlSystemGetDriverVersion())
    with contextlib.suppress(nvml.NVMLError):
        version = int(nvml.nvmlSystemGetCudaDriverVersion())
        found["cuda"] = f"{version // 1000}.{version % 1000 // 10}"
    return found


def _problem(nvml: Any, error: Exception) -> dict[str, str]:
    silent = {getattr(nvml, name, None) for name in NO_GPU}
    if getattr(error, "value", None) in silent:
        return {}
    return {"gpu_problem": f"NVIDIA's driver does not answer: {error}"}


def _text(value: Any) -> str:
    """Older bindings give bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
