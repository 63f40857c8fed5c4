"""Which tests of the trainer are slow: those that run whole trainings."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent
WHOLE_TRAININGS = {HERE / "test_every_method.py", HERE / "objectives" / "test_policy_runs.py"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark them before `-m` chooses, by what they ask for rather than one by one."""
    for item in items:
        asked = getattr(item, "fixturenames", ())
        if item.path.is_relative_to(HERE) and ("runs" in asked or item.path in WHOLE_TRAININGS):
            item.add_marker(pytest.mark.slow)
