"""A real `up` in a DATA of its own, with handles to kill any part of it and to compare what is left."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from orchestrator import postgres
from orchestrator.data_dir import PROJECT_DIR
from tests.chaos.stored import stored
from trainer.events import JOURNALS, number_decode
from trainer.gang import gang_read
from trainer.journal import read_events
from trainer.processes import ProcessName, processes_read
from trainer.rundir import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable

    from trainer.rundir import AttemptDir

# A proxy in the environment must not stand between us and this machine.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
MANAGE = str(PROJECT_DIR / "manage.py")


class Stack:
    """One `up`, from its start to its end."""

    def __init__(self, slots: int = 1) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="anneal-chaos-"))
        # The database's own account must be able to reach its files below.
        self.folder.chmod(0o755)
        self.data = self.folder / "var"
        self.disks = [self.data]
        """Data directories of the server and of nodes that have one of their own."""
        self.slots = slots
        self.env = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        self.env |= {
            "ANNEAL_DATA_DIR": str(self.data),
            "DJANGO_SETTINGS_MODULE": "orchestrator.settings",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.token = ""

    # --- its life ---------------------------------------------------------------------------------

    def up(self) -> None:
        """Start it and wait until it is healthy."""
        options = ["--port", "0", "--no-browser", "--slots", str(self.slots)]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, MANAGE, "up", *options],
                env=self.env,
                cwd=PROJECT_DIR,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(self.healthy, 60, lambda: f"it never got healthy:\n{self.said()}")
        if not self.token:
            command = [sys.executable, MANAGE, "api_token", "admin", "--scope", "admin"]
            found = subprocess.run(
                command, env=self.env, cwd=PROJECT_DIR, capture_output=True, text=True, check=True
            )
            self.token = found.stdout.strip()

    def said(self) -> str:
        """The last lines of every log."""
        logs = [self.folder / "up.log", *sorted((self.data / "logs").glob("*.log"))]
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-1500:]}" for log in logs if log.exists()
        )

    def down(self, number: signal.Signals = signal.SIGINT, within: float = 60) -> int:
        """End it by a signal and wait."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(within)

    def remove(self) -> None:
        """Leave nothing behind, whatever happened."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.down()
        for attempt in self.attempts():
            for process in processes_read(attempt.processes).values():
                process.signal(signal.SIGKILL, group=True)
        postgres.remove(self.data)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def notes(self) -> dict[str, Any]:
        """What `up` notes of itself."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            notes: dict[str, Any] = json.loads((self.data / "up.json").read_text())
            return notes
        return {}

    @property
    def port(self) -> int:
        """Where the web part listens; a new one listens there again."""
        found = urllib.parse.urlsplit(self.notes["url"]).port
        assert found is not None
        return found

    def healthy(self) -> bool:
        """Whether everything works."""
        try:
            return self.ask("GET", "/health", timeout=2)[0] == 200
        except (OSError, http.client.HTTPException, KeyError):
            return False

    # --- using it ---------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the API; asked again while parts are being started anew."""
        for _ in range(60):
            with contextlib.suppress(OSError, http.client.HTTPException, KeyError):
                status, text = self.ask(method, path, body)
                if status < 500:
                    assert status < 400, text
                    return json.loads(text)
            time.sleep(0.5)
        raise AssertionError(f"no answer to {method} {path}")

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 10) -> tuple[int, str]:
        """One call of the API, asked once: status and text."""
        request = urllib.request.Request(
            f"{self.notes['url']}api{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with _opener.open(request, timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def launch(self, spec: dict[str, Any], **words: Any) -> str:
        """Launch a run; its id."""
        return str(self.call("POST", "/runs", {"spec": spec, **words})["id"])

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as REST shows it."""
        found: dict[str, Any] = self.call("GET", f"/runs/{run_id}")
        return found

    def wait_state(self, run_id: str, *states: str, within: float = 120) -> dict[str, Any]:
        """Wait until the run is in one of these states."""
        self.wait(
            lambda: self.run(run_id)["state"] in states,
            within,
            lambda: f"{run_id} is not {states}: {self.run(run_id)}",
        )
        return self.run(run_id)

    def wait(self, happened: Callable[[], Any], within: float, why: Any = "") -> Any:
        """Wait until something is so."""
        deadline = time.monotonic() + within
        while not (found := happened()):
            if time.monotonic() > deadline:
                raise AssertionError(why() if callable(why) else why or "it did not happen")
            time.sleep(0.05)
        return found

    # --- hurting it -------------------------------------------------------------------------------

    def kill_part(self, name: str) -> bool:
        """kill -9 of web, control, node or database; False when it is not alive to be killed."""
        part = self.notes.get("parts", {}).get(name)
        return part is not None and ProcessName(*part).alive() and _kill(part[0])

    def kill_process(self, run_id: str, name: str) -> bool:
        """kill -9 of the trainer, host or ship of the newest attempt; False when there is none."""
        run = RunDir(self.data / "runs" / run_id)
        for number in reversed(run.attempts()):
            process = processes_read(run.attempt(number).processes).get(name)
            if process is not None and process.alive():
                return _kill(process.pid)
        return False

    def attempts(self, run_id: str = "*") -> list[AttemptDir]:
        """The attempts on disk."""
        runs = [RunDir(path) for disk in self.disks for path in (disk / "runs").glob(run_id)]
        return [run.attempt(number) for run in runs for number in run.attempts()]

    def speaking(self, run_id: str) -> list[AttemptDir]:
        """Those whose journals are delivered: of a gang the first machine's."""
        found = ((gang_read(attempt.gang), attempt) for attempt in self.attempts(run_id))
        return [attempt for gang, attempt in found if gang is None or gang.index == 0]

    # --- what is left -----------------------------------------------------------------------------

    def journalled(self, run_id: str) -> dict[tuple[int, int, str], tuple[int, float]]:
        """Every point in the journals on disk: attempt, seq, name -> step, value."""
        return {
            (attempt.number, event["seq"], key): (event["step"], number_decode(value))
            for attempt in self.speaking(run_id)
            for event in read_events(attempt.journal("trainer"))
            if event["type"] == "metrics"
            for key, value in event["values"].items()
        }

    def assert_everything_arrived(self, run_id: str) -> None:
        """Every journalled line of every attempt is in the database, exactly once."""
        self.wait(
            lambda: self.lines_missing(run_id) == 0,
            60,
            lambda: f"{self.lines_missing(run_id)} lines of {run_id} never arrived",
        )
        journalled, there = self.journalled(run_id), stored(self, run_id).points
        assert there.keys() == journalled.keys()
        wrong = {k: (there[k], v) for k, v in journalled.items() if repr(there[k]) != repr(v)}
        assert not wrong, list(wrong.items())[:3]
        samples = [
            (attempt.number, event["seq"])
            for attempt in self.speaking(run_id)
            for event in read_events(attempt.journal("samples"))
        ]
        rows = self.query(
            "SELECT attempt, seq FROM orchestrator_sample WHERE run_id = %s ORDER BY 1, 2", run_id
        )
        assert [tuple(row) for row in rows] == sorted(samples)

    def lines_missing(self, run_id: str) -> int:
        """Journal lines that the cursors have not reached."""
        rows = self.query(
            "SELECT attempt, source, cursor FROM orchestrator_stream WHERE run_id = %s", run_id
        )
        cursors = {(row[0], row[1]): row[2] for row in rows}
        return sum(
            sum(1 for _ in read_events(attempt.journal(source)))
            - cursors.get((attempt.number, source), 0)
            for attempt in self.speaking(run_id)
            for source in JOURNALS
        )

    def query(self, sql: str, *words: Any) -> list[tuple[Any, ...]]:
        """Rows straight from the database."""
        for _ in range(40):
            with (
                contextlib.suppress(psycopg.OperationalError),
                psycopg.connect(postgres.url(self.data)) as connection,
            ):
                return connection.execute(sql, words).fetchall()  # type: ignore[arg-type]
            time.sleep(0.25)
        raise AssertionError("the database does not answer")


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
