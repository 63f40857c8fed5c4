"""The run directory: where everything of one run lies.

spec.json              {"sha256", "spec"}: the effective spec
pins.json              steps whose checkpoints stay, whatever the keep policy says
expectations.json      how long each phase of the run was silent at most
attempt-K/             journal.jsonl  samples.jsonl  host.jsonl  log.txt  control.json  stacks.txt  rank-R.json
                       gang.json  requests.json
checkpoints/step-N/    Hugging Face format, `trainer/` for resuming, manifest.json
checkpoints/best.json  {"step", "path", "metric", "value"} of the best checkpoint that is kept
base/                  what an adapter stands on, where it was made on the spot; each step-N/base is linked to it
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.events import JOURNALS
from trainer.spec import RunSpec, spec_hash, spec_parse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trainer.events import Source

PINS = "pins.json"


@dataclass(frozen=True)
class RunDir:
    """One run's directory."""

    path: Path

    @property
    def spec_path(self) -> Path:
        return self.path / "spec.json"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def exists(self) -> bool:
        """Whether a run was started here."""
        return self.spec_path.exists()

    def create(self, spec: RunSpec) -> None:
        """Write spec.json. Raises FileExistsError when the directory already holds a run."""
        if self.exists():
            raise FileExistsError(
                f"{self.path} already holds a run; continue it with `python -m trainer resume {self.path}`"
                " or choose another --dir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self.spec_write(spec)

    def spec_write(self, spec: RunSpec) -> None:
        """Replace spec.json in one step; the effective spec gains what was probed at start."""
        data = spec.model_dump(mode="json")
        write_atomic(
            self.spec_path, json.dumps({"sha256": spec_hash(data), "spec": data}, indent=1)
        )

    def spec_raw(self) -> dict[str, Any]:
        """spec.json as it stands. Raises FileNotFoundError when there is no run here."""
        if not self.exists():
            raise FileNotFoundError(f"{self.path} holds no run (no spec.json)")
        raw: dict[str, Any] = json.loads(self.spec_path.read_text())
        return raw

    def spec(self) -> RunSpec:
        """The effective spec. Raises SpecError when it does not fit this version."""
        return spec_parse(self.spec_raw()["spec"])

    def attempts(self) -> list[int]:
        """The attempts begun so far, in order."""
        if not self.path.is_dir():
            return []
        matches = (re.fullmatch(r"attempt-(\d+)", item.name) for item in self.path.iterdir())
        return sorted(int(match[1]) for match in matches if match)

    def attempt(self, number: int) -> AttemptDir:
        """The directory of one attempt; it is made by whoever starts it."""
        return AttemptDir(self.path / f"attempt-{number}", number)

    def next_attempt(self) -> int:
        """The number of the next attempt, from 1."""
        return max(self.attempts(), default=0) + 1

    def checkpoint_steps(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        if not self.checkpoints.is_dir():
            return []
        matches = (re.fullmatch(r"step-(\d+)", item.name) for item in self.checkpoints.iterdir())
        steps = sorted(int(match[1]) for match in matches if match)
        return [step for step in steps if (self.checkpoint(step) / "manifest.json").exists()]

    def is_void(self, step: int, voids: Iterable[Sequence[int]]) -> bool:
        """Whether a rollback [attempt, step] took back the checkpoint at `step`."""
        try:
            manifest = json.loads((self.checkpoint(step) / "manifest.json").read_text())
        except (OSError, ValueError):
            return False  # a damaged one is passed over by whoever looks for the newest
        saved_by = manifest.get("attempt", 0) if isinstance(manifest, dict) else 0
        return any(saved_by <= attempt and step > behind for attempt, behind in voids)

    def pins(self) -> frozenset[int]:
        """Steps whose checkpoints people want kept. Raises ValueError when the file says no such thing."""
        try:
            found = json.loads((self.path / PINS).read_text())
        except FileNotFoundError:
            return frozenset()
        if not isinstance(found, list) or not all(type(step) is int for step in found):
            raise ValueError(f"{self.path / PINS} is no list of steps")
        return frozenset(found)

    def pins_write(self, steps: Iterable[int]) -> None:
        """Note which checkpoints stay; nothing is written when that is known already."""
        wanted = sorted(set(steps))
        with contextlib.suppress(ValueError):
            if self.pins() == set(wanted):
                return
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path / PINS, json.dumps(wanted))

    def checkpoint(self, step: int) -> Path:
        """The folder of the checkpoint at `step`."""
        return self.checkpoints / f"step-{step}"


@dataclass(frozen=True)
class AttemptDir:
    """One process start of a run."""

    path: Path
    number: int

    def journal(self, source: Source) -> Path:
        """The journal file of a source."""
        return self.path / JOURNALS[source]

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def control(self) -> Path:
        return self.path / "control.json"

    @property
    def requests(self) -> Path:
        """What a playground is asked and has not answered yet, as the server said it last."""
        return self.path / "requests.json"

    @property
    def past(self) -> Path:
        """What attempts on other machines changed and met: a list of {attempt, step, knobs} or {attempt, asks}."""
        return self.path / "past.json"

    @property
    def stacks(self) -> Path:
        """Where the trainer writes its stacks on SIGUSR1."""
        return self.path / "stacks.txt"

    @property
    def doing(self) -> Path:
        """What the trainer is at: the phase, the seconds that it may be silent in it, and why, a line each."""
        return self.path / "doing"

    def word(self, rank: int) -> Path:
        """How a rank of a training in several processes ended, where the trainer's journal could not be told."""
        return self.path / f"rank-{rank}.json"

    @property
    def gang(self) -> Path:
        """This machine's place in an attempt on several (mode 0600); absent where there is one machine."""
        return self.path / "gang.json"

    def alive(self, name: str) -> Path:
        """The file that host, ship or `rank-R` touches for as long as it works."""
        return self.path / f"{name}.alive"

    @property
    def lease(self) -> Path:
        """server, token: what `ship` needs to speak for this attempt (mode 0600)."""
        return self.path / "lease.json"

    @property
    def processes(self) -> Path:
        """pid and start time of host, trainer and ship, so that a restarted node finds them again."""
        return self.path / "processes.json"


def write_atomic(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader sees the old or the new content, never half."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
