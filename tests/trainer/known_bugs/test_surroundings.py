"""What a trainer is started with: threads that wait without spinning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from trainer.rundir import RunDir

ROOT = Path(__file__).parents[3]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
TELL = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps(dict(os.environ)))
"""


def bare():
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "GOMP_"))
    }


def test_bug_50_a_trainer_that_host_starts_does_not_spin(tmp_path):
    """Its environment has it before torch is loaded, and over whatever the caller had."""
    run = RunDir(tmp_path / "run")
    run.attempt(1).path.mkdir(parents=True)
    (run.path / "spec.json").write_text(json.dumps({"spec": {"resources": {"cpus": 2}}}))
    words = [sys.executable, "-m", "trainer.host", "--dir", str(run.path), "--attempt", "1"]
    told = tmp_path / "environment.json"
    subprocess.run(
        [*words, "--", sys.executable, "-c", TELL, str(told)],
        cwd=ROOT,
        env={**bare(), "OMP_WAIT_POLICY": "ACTIVE"},
        timeout=60,
        check=False,
    )
    environment = json.loads(told.read_text())
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert {environment[name] for name in THREADS} == {"2"}


def test_bug_50_a_trainer_started_by_hand_does_not_spin_either(tmp_path):
    code = (
        "import os, sys\n"
        "from trainer.__main__ import _prepare_threads\n"
        "_prepare_threads(2)\n"
        "assert 'torch' not in sys.modules\n"
        "print(os.environ['OMP_WAIT_POLICY'], os.environ['OMP_NUM_THREADS'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=bare(), capture_output=True, text=True
    )
    assert done.stdout.split() == ["PASSIVE", "2"], done.stderr
