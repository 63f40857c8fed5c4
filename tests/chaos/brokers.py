"""Real brokers as children of a test, on free ports of the loopback address, each in a folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""The server itself: the script on the PATH writes to the machine's own folders."""


class Redis:
    """A Redis server, which holds nothing on a disk."""

    def __init__(self) -> None:
        if shutil.which("redis-server") is None:
            pytest.skip("no redis-server here: apt-get install redis-server")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, empty, and wait until it takes connections."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            ["redis-server", *options], stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir()
        )
        wait_for_port(self.port, self._process, 10)

    def kill(self) -> None:
        """kill -9; whatever it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class RabbitMQ:
    """A RabbitMQ server with a port mapper (epmd) of its own; both listen on the loopback address alone."""

    def __init__(self) -> None:
        if not RABBIT.exists() or shutil.which("epmd") is None:
            pytest.skip("no rabbitmq-server here: apt-get install rabbitmq-server")
        self.folder = Path(tempfile.mkdtemp(prefix="anneal-rabbit-"))
        self.port, self._names, self._cluster = free_port(), free_port(), free_port()
        self._children: list[subprocess.Popen[bytes]] = []

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        """Start both and wait until it takes connections."""
        (self.folder / "plugins").write_text("[].\n")
        (self.folder / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\n")
        mapper = ["epmd", "-address", "127.0.0.1", "-port", str(self._names)]
        self._child(mapper)
        wait_for_port(self._names, self._children[-1], 10)
        self._child([str(RABBIT)])
        wait_for_port(self.port, self._children[-1], 120, self._said)

    def kill(self) -> None:
        """kill -9 of everything that belongs to it."""
        for child in reversed(self._children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _child(self, command: list[str]) -> None:
        with (self.folder / "said").open("ab") as said:
            self._children.append(
                subprocess.Popen(
                    command,
                    env=self._environment(),
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            )

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._names),
            "RABBITMQ_NODENAME": f"anneal-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._cluster),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "none.conf"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            # One scheduler that does not spin: this machine is shared with trainings.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none"
            ),
        }

    def _said(self) -> str:
        return (self.folder / "said").read_text()[-2000:]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(
    port: int, process: subprocess.Popen[bytes], within: float, said: object = None
) -> None:
    """Wait until somebody listens there."""
    deadline = time.monotonic() + within
    while True:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        words = said() if callable(said) else ""
        assert process.poll() is None, f"it ended at once: {words}"
        assert time.monotonic() < deadline, f"nobody listens on {port}: {words}"
        time.sleep(0.05)
