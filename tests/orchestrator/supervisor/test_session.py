"""`manage.py up` from the outside: healthy soon, alone on its DATA, gone without a trace."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from orchestrator.data_dir import PROJECT_DIR
from orchestrator.supervisor.ledger import Ledger
from orchestrator.supervisor.processes import Identity, family

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow
READY = re.compile(r"Anneal is up at (http://\S+)/\n  Sign in  (\S+)")


class Up:
    """One `up` in a process of its own, and what it has said."""

    def __init__(self, data_dir: Path, *options: str) -> None:
        self.data_dir = data_dir
        self.output = data_dir.parent / "up.txt"
        base = {k: v for k, v in os.environ.items() if not k.startswith(("ANNEAL_", "DJANGO_"))}
        self.begun = time.monotonic()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--no-browser", "--port", "0", *options],
                cwd=PROJECT_DIR,
                env={**base, "ANNEAL_DATA_DIR": str(data_dir)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text()

    def ready(self, within: float = 60) -> re.Match[str]:
        while not (found := READY.search(self.said())):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() - self.begun < within, self.said()
            time.sleep(0.05)
        return found

    def part(self, name: str) -> Identity:
        return Identity(*json.loads((self.data_dir / "up.json").read_text())["parts"][name])

    def family(self) -> list[psutil.Process]:
        return list(family(Ledger(self.data_dir).token))


@pytest.fixture
def up(data_dir) -> Iterator[Callable[..., Up]]:
    """Start `up` over one DATA; whatever is left of it is ended after the test."""
    started: list[Up] = []

    def start(*options: str) -> Up:
        started.append(Up(data_dir, *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)
            one.process.wait(60)
        for process in one.family():
            process.kill()


def test_it_gets_healthy_and_leaves_no_process(up, data_dir):
    one = up()
    url, link = one.ready().groups()
    assert link.startswith(f"{url}/login/link/")
    with urllib.request.urlopen(f"{url}/api/health", timeout=5) as answer:
        assert answer.status == 200
    parts = [one.part(name) for name in ("database", "web", "control", "node")]
    assert all(part.process() for part in parts)
    modules = {found.path for found in psutil.Process(one.process.pid).memory_maps()}
    assert not [path for path in modules if "torch" in path]

    one.process.send_signal(signal.SIGINT)
    assert one.process.wait(40) == 0, one.said()
    assert "Traceback" not in one.said()
    assert [part for part in parts if part.process()] == []
    assert one.family() == []
    assert not [*PROJECT_DIR.glob("celerybeat*"), *data_dir.rglob("celerybeat*")]


def test_a_second_one_is_refused_and_says_where_the_first_is(up, data_dir):
    one = up()
    url = one.ready().group(1)
    text = one.said()
    second = up()
    assert second.process.wait(20) == 1
    assert url in second.said()
    assert str(one.process.pid) in second.said()
    assert one.process.poll() is None, text


def test_a_killed_part_is_back_and_healthy(up, until):
    one = up()
    url = one.ready().group(1)
    for name in ("web", "database"):
        before = one.part(name)
        os.kill(before.pid, signal.SIGKILL)
        until(lambda name=name, before=before: one.part(name) != before, within=20)

    def is_healthy() -> bool:
        try:
            with urllib.request.urlopen(f"{url}/api/health", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False

    until(is_healthy, within=20)


def test_after_a_kill_of_up_the_next_one_ends_the_leftovers(up, until):
    one = up()
    one.ready()
    parts = [one.part(name) for name in ("database", "web", "control", "node")]
    one.process.kill()
    one.process.wait()
    assert all(part.process() for part in parts)
    following = up()
    following.ready()
    assert "Ended what an earlier start left behind" in following.said()
    assert [part for part in parts if part.process()] == []
