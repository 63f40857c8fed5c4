"""What every test shares: a DATA of its own, and a real PostgreSQL once a test asks for one."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from django.conf import settings
from django.db import connections

from orchestrator import postgres
from orchestrator.postgres.record import record_read

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Start the embedded database for the first test that needs one; stop it after the last."""
    if os.environ.get("DATABASE_URL"):
        yield
        return
    data_dir = settings.ANNEAL_DATA_DIR
    postgres.ensure_running(data_dir)
    _spare_the_disk(data_dir)
    # The settings were read before the database had an address.
    connections["default"].settings_dict.update(postgres.django_database(data_dir))
    yield
    postgres.remove(data_dir)


def _spare_the_disk(data_dir: Path) -> None:
    """Let the tests' server skip waiting for the disk: its data dies with the session."""
    record, pid = record_read(data_dir), postgres.postmaster_pid(data_dir)
    assert record and pid
    with (record.data / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
    os.kill(pid, signal.SIGHUP)


@pytest.fixture(scope="session")
def django_db_setup(django_db_modify_db_settings: None, django_db_setup: None) -> None:
    """Make the test database on the server above."""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty DATA that every account of the machine may enter, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="anneal-test-"))
    folder.chmod(0o755)
    yield folder / "var"
    postgres.remove(folder / "var")
    shutil.rmtree(folder)


def pytest_configure(config: pytest.Config) -> None:
    """Clean up after earlier sessions that were killed."""
    for folder in Path(tempfile.gettempdir()).glob("anneal-tests-*-*"):
        if not psutil.pid_exists(int(folder.name.split("-")[2])):
            data_dir_remove(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind; a worker of xdist borrows the folder of its session."""
    if not hasattr(config, "workerinput"):
        data_dir_remove(Path(os.environ["ANNEAL_TESTS_DATA_DIR"]))


def data_dir_remove(folder: Path) -> None:
    """Remove a DATA with the database that may still run there."""
    postgres.remove(folder)
    shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright keeps an event loop running, beside which no other may start."""
    items.sort(key=lambda item: "chromium" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Under CI=true nothing may be missing: a skipped test fails, but for those that need a GPU."""
    report = yield
    missing = report.skipped and not hasattr(report, "wasxfail")
    if missing and _may_not_skip() and item.get_closest_marker("gpu") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """The same for a whole file that skips itself."""
    report = yield
    if report.skipped and _may_not_skip():
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {report.longrepr}"
    return report


def _may_not_skip() -> bool:
    return os.environ.get("CI") == "true"
