"""The inventory: what a machine has, read without torch."""

from __future__ import annotations

import json
import subprocess
import sys

from orchestrator.node.inventory import inventory
from trainer import registry


def test_everything_is_json_and_torch_stays_out(tmp_path):
    found = inventory(tmp_path)
    assert json.loads(json.dumps(found, allow_nan=False))["cpus"] >= 1
    assert found["methods"] == registry.hashes()
    assert found["memory"] > found["memory_used"] > 0
    assert found["disk"] > found["disk_free"] > 0 and isinstance(found["gpus"], list)
    assert found["engines"]["native"] == found["versions"]["torch"]
    code = (
        "import sys; from pathlib import Path; from orchestrator.node.inventory import inventory; "
        "inventory(Path('/tmp')); print('torch' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"
