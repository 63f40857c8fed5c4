"""Names of processes: they outlive a clock that is set, and fit no other process."""

from __future__ import annotations

import os

import psutil
import pytest

from trainer import processes
from trainer.processes import ProcessName, processes_read, processes_write


@pytest.fixture
def clock_set(monkeypatch):
    """Set the machine's clock: Unix time of the boot and of every start move with it."""

    def move(seconds: float) -> None:
        boot, created = psutil.boot_time, psutil.Process.create_time
        monkeypatch.setattr(psutil, "boot_time", lambda: boot() + seconds)
        monkeypatch.setattr(psutil.Process, "create_time", lambda self: created(self) + seconds)

    return move


@pytest.mark.parametrize("seconds", [-18_000.0, -2.0, 0.0, 2.0, 18_000.0])
def test_a_name_fits_its_process_whatever_the_clock_was_set_to(clock_set, tmp_path, seconds):
    processes_write(tmp_path / "processes.json", {"host": ProcessName.of(os.getpid())})
    clock_set(seconds)
    assert processes_read(tmp_path / "processes.json")["host"].alive()
    assert ProcessName.of(os.getpid()).alive()


def test_a_name_fits_no_process_that_got_the_same_pid(monkeypatch):
    me = ProcessName.of(os.getpid())
    assert not me._replace(created=me.created - 1.0).alive()
    assert not me._replace(created=0.0).alive()
    # After a boot the same pid may begin as many seconds later.
    monkeypatch.setattr(processes, "_boot", lambda: "another boot")
    assert not me.alive()


def test_a_name_of_an_older_version_still_fits():
    created = psutil.Process().create_time()
    assert ProcessName(os.getpid(), created).alive()
    assert not ProcessName(os.getpid(), created - 60).alive()


def test_a_process_that_is_gone_has_a_name_that_fits_none():
    assert not ProcessName.of(2**22 + 1).alive()
