"""The web and control processes never load torch: they run where it is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest

SETUP = "import django; django.setup()"
PARTS = {
    "web": "import orchestrator.asgi, orchestrator.urls, orchestrator.routing",
    "control": "import orchestrator.celery, orchestrator.tasks",
    "catalogue": "from trainer.catalog import catalog_data; catalog_data()",
    "openapi": "from orchestrator.api.interface import api; api.get_openapi_schema()",
}
HEAVY = ("torch", "transformers", "vllm", "datasets", "peft", "trl")


@pytest.mark.parametrize("part", PARTS)
def test_it_starts_without_torch(part: str) -> None:
    look = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    code = "; ".join(
        [
            "import os; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings'",
            SETUP,
            PARTS[part],
            look,
        ]
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip().splitlines()[-1] == "[]"
