"""A ledger over an empty DATA, and small commands that stand for the parts of Anneal."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from orchestrator.supervisor.ledger import Ledger
from orchestrator.supervisor.part import ProcessPart
from orchestrator.supervisor.processes import FAMILY
from orchestrator.supervisor.supervise import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOREVER = "import time; time.sleep(600)"


@pytest.fixture
def ledger(data_dir) -> Iterator[Ledger]:
    """The ledger of an `up` that has claimed DATA."""
    ledger = Ledger(data_dir)
    ledger.claim()
    yield ledger
    ledger.close()


@pytest.fixture
def make_part(ledger) -> Iterator[Callable[..., ProcessPart]]:
    """Make a part of the family that runs some Python; all are ended after the test."""
    made: list[ProcessPart] = []

    def make(name: str = "web", program: str = FOREVER) -> ProcessPart:
        command = [sys.executable, "-c", program]
        env = {**os.environ, FAMILY: ledger.token}
        made.append(ProcessPart(name, command, env, ledger.data_dir / "logs" / f"{name}.log"))
        return made[-1]

    yield make
    for part in made:
        part.stop(0)


@pytest.fixture
def supervisor(ledger) -> Supervisor:
    """A supervisor that keeps nothing yet."""
    return Supervisor(ledger, threading.Event())


@pytest.fixture
def until() -> Callable[[Callable[[], object]], float]:
    """Wait until something holds; return how long it took."""

    def wait(holds: Callable[[], object], within: float = 5.0) -> float:
        begun = time.monotonic()
        while not holds():
            assert time.monotonic() - begun < within, "it never came true"
            time.sleep(0.01)
        return time.monotonic() - begun

    return wait
