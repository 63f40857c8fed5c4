"""What the server's tests share: a DATA folder of their own each, emptied of processes after."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty DATA that every account of the machine may enter, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="anneal-test-"))
    os.chmod(folder, 0o755)
    yield folder / "var"
    postgres.remove(folder / "var")
    shutil.rmtree(folder)
