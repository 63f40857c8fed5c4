"""The parts of Anneal on one machine, in the order they start, and the command of each."""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import TYPE_CHECKING

from django.conf import settings

from orchestrator.data_dir import PROJECT_DIR, alive_path
from orchestrator.supervisor.address import is_loopback, local_host
from orchestrator.supervisor.part import ProcessPart
from orchestrator.supervisor.processes import FAMILY
from orchestrator.supervisor.standstill import WORK, AnswerSign, TouchSign, hung_after
from trainer.frames import FRAME_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.supervisor.standstill import Sign


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the command line asked for."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8000
    slots: int | None = None

    @property
    def url(self) -> str:
        """Return where this machine reaches the web part."""
        return f"http://{local_host(self.host)}:{self.port}"


def parts(wanted: Wanted, token: str) -> dict[str, ProcessPart]:
    """Return web, control and node, none of them started."""
    commands = {"web": _web(wanted), "control": _command("control"), "node": _node(wanted)}
    env = environment(wanted, token)
    logs = wanted.data_dir / "logs"
    limit = hung_after()
    signs: dict[str, list[Sign]] = {
        "web": [AnswerSign(wanted.url, limit)],
        "control": [
            TouchSign(alive_path(wanted.data_dir, "control"), limit),
        ],
        "node": [TouchSign(alive_path(wanted.data_dir, "node"), limit)],
    }
    if settings.BROKER_URL.startswith("filesystem:"):
        # Another broker may be away, and then no task begins that control could be blamed for.
        work = alive_path(wanted.data_dir, "control-work")
        signs["control"].append(TouchSign(work, WORK * limit, "it began no task"))
    return {
        name: ProcessPart(name, command, env, logs / f"{name}.log", signs[name])
        for name, command in commands.items()
    }


def environment(wanted: Wanted, token: str) -> dict[str, str]:
    """Return what every part finds in its environment."""
    env = {
        **os.environ,
        "ANNEAL_DATA_DIR": str(wanted.data_dir),
        FAMILY: token,
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "orchestrator.settings"),
        # Threads that spin beside a busy neighbour made a training step 20 times slower.
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONUNBUFFERED": "1",
    }
    if not is_loopback(wanted.host):
        # The local node speaks to the address we listen on, whatever name people use.
        hosts = [env.get("ANNEAL_ALLOWED_HOSTS", ""), local_host(wanted.host)]
        env["ANNEAL_ALLOWED_HOSTS"] = ",".join(filter(None, hosts))
    return env


def _web(wanted: Wanted) -> list[str]:
    bind = ["-b", wanted.host.strip("[]"), "-p", str(wanted.port)]
    quiet = ["--verbosity", "0", "--no-server-name"]
    # Over this a frame is refused unread; between the two the consumer says what a frame may hold.
    largest = str(2 * FRAME_BYTES)
    limits = ["--websocket-max-message-size", largest, "--websocket-max-frame-size", largest]
    limits += ["--application-close-timeout", "3"]
    return [
        *(sys.executable, "-m", "daphne", *bind, *quiet, *limits),
        "orchestrator.asgi:application",
    ]


def _command(name: str, *options: str) -> list[str]:
    return [sys.executable, str(PROJECT_DIR / "manage.py"), name, *options]


def _node(wanted: Wanted) -> list[str]:
    slots = [] if wanted.slots is None else ["--slots", str(wanted.slots)]
    token_file = str(wanted.data_dir / "node.token")
    return _command(
        *("node", "--server", wanted.url, "--token-file", token_file, "--name", "local", *slots)
    )
