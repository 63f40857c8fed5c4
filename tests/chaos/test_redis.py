"""The same stack with a real Redis as its broker, which dies in the middle."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.chaos.stack import Stack
from tests.chaos.test_kills import finished, spec, trains

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow]


class Redis:
    """A Redis server on a free port of the loopback address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it takes connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        self._process = subprocess.Popen(
            ["redis-server", *options, str(self._folder)], stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.05)

    def kill(self) -> None:
        """kill -9; whatever it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    server = Redis(tmp_path)
    server.start()
    yield server
    server.kill()


def test_orders_go_over_redis_and_its_loss_loses_no_run(redis: Redis) -> None:
    stack = Stack()
    stack.env["BROKER_URL"] = redis.url
    try:
        stack.up()
        first = stack.launch(spec(60))
        stack.wait(lambda: trains(stack, first), 60, "the first run does not train")
        redis.kill()
        # While the broker is away, training goes on, and what is launched waits.
        second: dict[str, Any] = stack.call("POST", "/runs", {"spec": spec(5)})
        redis.start()
        finished(stack, first)
        finished(stack, second["id"])
        assert not (stack.data / "broker" / "messages").exists(), "the filesystem broker was used"
    finally:
        stack.remove()
