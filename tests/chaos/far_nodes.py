"""Nodes as on other machines: processes of their own, with data directories of their own, joined by a token."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.stack import MANAGE
from trainer.processes import processes_read

if TYPE_CHECKING:
    from tests.chaos.stack import Stack


class FarNode:
    """One of them."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name = stack, name
        self.data = stack.folder / name
        stack.disks.append(self.data)
        made = stack.call("POST", "/nodes", {"name": name})
        self.id, self._token = made["id"], made["token"]
        self.process: subprocess.Popen[bytes] | None = None
        self.more: dict[str, str] = {}
        """What else stands in its environment."""

    @property
    def server(self) -> str:
        """The address that it is given."""
        return str(self.stack.notes["url"])

    def start(self, *options: str) -> None:
        """Start its worker and wait until it has joined."""
        # Neither database nor broker is told to it: the server's answer says where the broker is.
        env = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "BROKER_URL")}
        env |= {
            "ANNEAL_DATA_DIR": str(self.data),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
            **self.more,
        }
        command = ["node", "--server", self.server, "--token", self._token]
        with (self.stack.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, MANAGE, *command, "--label", f"at={self.name}", *options],
                env=env,
                cwd=PROJECT_DIR,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.stack.wait(self.ready, 90, lambda: f"{self.name} does not join: {self.said()}")

    def ready(self) -> bool:
        """Whether the server takes it for ready, and it is the process that was started last."""
        assert self.process is not None and self.process.poll() is None, self.said()
        return bool(self.shown()["status"] == "ready")

    def shown(self) -> dict[str, Any]:
        """The node as REST shows it."""
        found: dict[str, Any] = self.stack.call("GET", f"/nodes/{self.id}")
        return found

    def change(self, **fields: Any) -> None:
        """Change it as an admin does."""
        self.stack.call("PATCH", f"/nodes/{self.id}", fields)

    def kill_worker(self) -> None:
        """kill -9 of its worker alone; trainings go on."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def power_off(self) -> None:
        """kill -9 of everything that it runs, at once."""
        pids = [
            process.pid
            for attempt in self.stack.attempts()
            if attempt.path.is_relative_to(self.data)
            for process in processes_read(attempt.processes).values()
            if process.alive()
        ]
        self.kill_worker()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def said(self) -> str:
        """The end of its log."""
        return (self.stack.folder / f"{self.name}.log").read_text()[-2000:]
