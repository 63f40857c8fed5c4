"""The inventory: what a machine has, read without torch; GPUs as the driver tells."""

from __future__ import annotations

import json
import subprocess
import sys
import types

import pytest

from orchestrator.node.inventory import gpus, inventory
from trainer import registry

GIB = 2**30


@pytest.fixture
def driver(monkeypatch):
    """A driver with two GPUs, of which the second does not count its power."""

    class NVMLError(Exception):
        pass

    def power(handle):
        if handle == 1:
            raise NVMLError("not supported")
        return 250_500

    fake = types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 2,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"H200" if handle else "H200",
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(total=140 * GIB, used=GIB),
        nvmlDeviceGetUtilizationRates=lambda handle: types.SimpleNamespace(gpu=37),
        nvmlDeviceGetPowerUsage=power,
    )
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


def test_gpus_come_with_memory_load_and_power(driver, monkeypatch):
    first, second = gpus()
    assert first == {
        "index": 0,
        "name": "H200",
        "memory": 140 * GIB,
        "used": GIB,
        "utilisation": 37,
        "power": 250.5,
    }
    assert (second["name"], second["power"]) == ("H200", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [gpu["index"] for gpu in gpus()] == [1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus() == []


def test_a_machine_without_a_driver_has_no_gpus(driver):
    def fail():
        raise driver.NVMLError("driver not loaded")

    driver.nvmlInit = fail
    assert gpus() == []


def test_everything_is_json_and_torch_stays_out(tmp_path):
    found = inventory(tmp_path)
    assert json.loads(json.dumps(found, allow_nan=False))["cpus"] >= 1
    assert found["methods"] == registry.hashes()
    assert found["memory"] > found["memory_used"] > 0
    code = (
        "import sys; from pathlib import Path; from orchestrator.node.inventory import inventory; "
        "inventory(Path('/tmp')); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
