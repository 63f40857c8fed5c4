"""Commands on a checkpoint's page."""

from __future__ import annotations

import shlex

import pytest

from orchestrator.selectors.checkpoint_rows import export_texts
from trainer.__main__ import main


@pytest.mark.parametrize("adapter", [True, False])
def test_exports_are_commands_that_the_trainer_knows(
    adapter: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = export_texts("/no where/step-1", adapter=adapter)
    assert bool(found["merge"]) == adapter
    assert found["push"].endswith("--merge") == adapter
    for command in filter(None, found.values()):
        assert command.startswith("python -m trainer ")
        words = shlex.split(command)[3:]
        assert "/no where/step-1" in words
        assert main(words) != 0
        assert "/no where/step-1" in capsys.readouterr().err
