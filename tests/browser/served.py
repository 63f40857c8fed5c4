"""A real `up` in a DATA of its own, and the way into it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from orchestrator.data_dir import PROJECT_DIR

START_SECONDS, END_SECONDS = 90, 60
LINK = re.compile(r"http://\S+/login/link/[\w-]+/")


class Served:
    """`with Served() as up:` gives `up.link`, a one-time way in, and `up.url`."""

    def __init__(self, *options: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="anneal-served-"))
        # The database's own account must be able to reach its files below.
        self.folder.chmod(0o755)
        self.options = options

    def __enter__(self) -> Self:
        env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        env |= {
            "ANNEAL_DATA_DIR": str(self.folder / "var"),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        }
        command = [sys.executable, "manage.py", "up", "--port", "0", "--no-browser", *self.options]
        self.log = self.folder / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT_DIR, env=env, stdout=log, stderr=log, start_new_session=True
            )
        self.link = self._link()
        self.url = self.link.partition("/login/")[0]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_SECONDS)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _link(self) -> str:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            text = self.log.read_text(errors="replace")
            found = LINK.search(text)
            if found:
                return found[0]
            if self.process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"`up` did not come up:\n{self.log.read_text(errors='replace')}")
