"""GPUs as the driver tells of them, behind a stand-in for NVML with its own errors and names."""

from __future__ import annotations

import sys
import types

import pynvml as real
import pytest

from trainer.gpus import gpu_report, gpus

GIB = 2**30
UUIDS = ("GPU-8a56a4bc-e184", "GPU-1f22c0de-0001")


def refuse(*_: object) -> None:
    raise real.NVMLError(real.NVML_ERROR_NOT_SUPPORTED)


@pytest.fixture
def driver(monkeypatch):
    """A driver with two GPUs, of which the second counts neither power nor heat."""

    def only_first(value):
        return lambda handle, *_: value if handle == 0 else refuse()

    fake = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: "570.86.15",
        nvmlSystemGetCudaDriverVersion=lambda: 12080,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetUUID=lambda handle: UUIDS[handle],
        nvmlDeviceGetName=lambda handle: b"NVIDIA H200" if handle else "NVIDIA H200",
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(total=140 * GIB, used=GIB),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=37, memory=9),
        nvmlDeviceGetPowerUsage=only_first(250_512),
        nvmlDeviceGetEnforcedPowerLimit=only_first(700_000),
        nvmlDeviceGetTemperature=only_first(61),
    )
    for name in ("NVMLError", *(n for n in dir(real) if n.startswith(("NVML_ERROR", "NVML_TEMP")))):
        setattr(fake, name, getattr(real, name))
    # What is asked of the stand-in must exist in the real library under the same name.
    assert all(hasattr(real, name) for name in vars(fake))
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_gpus_come_with_memory_load_power_and_heat(driver):
    first, second = gpus()
    assert first == {
        "index": 0,
        "uuid": UUIDS[0],
        "name": "NVIDIA H200",
        "memory": 140 * GIB,
        "used": GIB,
        "utilisation": 37,
        "power": 250.5,
        "power_limit": 700.0,
        "temperature": 61,
    }
    assert (second["name"], second["power"], second["temperature"]) == ("NVIDIA H200", None, None)


def test_the_driver_says_its_versions(driver):
    report = gpu_report()
    assert (report["driver"], report["cuda"]) == ("570.86.15", "12.8")
    assert "gpu_problem" not in report


@pytest.mark.parametrize(
    ("visible", "left"),
    [("1", [1]), ("", []), ("0,1", [0, 1]), ("GPU-1f22", [1]), (UUIDS[0], [0]), ("MIG-x", [0, 1])],
)
def test_only_the_gpus_that_this_node_was_given_are_offered(driver, monkeypatch, visible, left):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert [gpu["index"] for gpu in gpus()] == left


@pytest.mark.parametrize("code", ["NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED"])
def test_a_machine_without_a_driver_simply_has_no_gpus(driver, code):
    def fail():
        raise real.NVMLError(getattr(real, code))

    driver.nvmlInit = fail
    assert gpu_report() == {"gpus": []}


def test_a_driver_that_does_not_work_is_told_of(driver):
    def fail():
        raise real.NVMLError(real.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    driver.nvmlInit = fail
    assert (
        "does not answer: RM has detected an NVML/RM version mismatch"
        in gpu_report()["gpu_problem"]
    )


def test_a_card_that_fell_off_the_bus_is_told_of_and_takes_nothing_else_with_it(driver):
    def fail(handle):
        raise real.NVMLError(real.NVML_ERROR_GPU_IS_LOST)

    driver.nvmlDeviceGetMemoryInfo = fail
    report = gpu_report()
    assert report["gpus"] == [] and report["driver"] == "570.86.15"
    assert "GPU is lost" in report["gpu_problem"]
