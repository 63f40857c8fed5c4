"""What an attempt died of, told from outside: exit code, signal, last lines, the kernel's own count."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from trainer.events import EXIT_INVALID, EXIT_PAUSED, EXIT_STOPPED
from trainer.rundir import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable

OWN_FAULT = frozenset({"SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSYS", "SIGTRAP"})
OUT_OF_MEMORY = re.compile(
    r"\bMemoryError\b|out of memory|OutOfMemoryError|not enough memory", re.I
)
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|^failed: the disk is full", re.I | re.M
)
"""The system's words, and the trainer's own verdict: there may be room again when the end is looked into."""


@dataclass(frozen=True)
class Verdict:
    """State and cause as in a status event, and a sentence."""

    state: str
    cause: str
    message: str


class Word(Protocol):
    """What says how a process ended."""

    @property
    def state(self) -> str: ...
    @property
    def cause(self) -> str: ...
    @property
    def message(self) -> str: ...


def word_write(path: Path, word: Word) -> None:
    """Leave the word of a rank, which may not write the journal, for whoever does."""
    data = {"state": word.state, "cause": word.cause, "message": word.message}
    write_atomic(path, json.dumps(data))


def word_read(path: Path) -> Verdict | None:
    """The word that a rank left; None where it left none."""
    try:
        return Verdict(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def verdict_of_exit(
    code: int | None, log: Iterable[str], *, oom_killed: bool, disk_full: bool = False
) -> Verdict:
    """The end of a trainer that did not say how it ended; `code` None: nobody could see it end.

    On a full disk nobody can say why: neither the trainer nor the log.
    """
    if code is None:
        return Verdict("failed", "killed", "The trainer ended unseen, without a last word.")
    if code < 0:
        return _of_signal(-code, oom_killed=oom_killed)
    if code == EXIT_STOPPED:
        return Verdict("stopped", "user", "The trainer stopped without saying why.")
    if code == EXIT_PAUSED:
        return Verdict("paused", "user", "The trainer paused without saying why.")
    lines = [line for line in log if line.strip()]
    said = f" Its last line: {lines[-1][:300]}" if lines else ""
    text = "\n".join(lines)
    if code == EXIT_INVALID:
        return Verdict("failed", "bad-input", f"The trainer refused its input.{said}")
    if OUT_OF_MEMORY.search(text):
        return Verdict("failed", "oom", f"The trainer ran out of memory (exit code {code}).{said}")
    if disk_full or DISK_FULL.search(text):
        return Verdict("failed", "disk", f"The disk is full (exit code {code}).{said}")
    return Verdict("failed", "crash", f"The trainer ended with exit code {code}.{said}")


def _of_signal(number: int, *, oom_killed: bool) -> Verdict:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGKILL" and oom_killed:
        return Verdict(
            "failed", "oom", "The kernel killed the trainer because the machine ran out of memory."
        )
    if name in OWN_FAULT:
        return Verdict("failed", "crash", f"The trainer crashed ({name}).")
    return Verdict("failed", "killed", f"The trainer was killed ({name}).")


def oom_kills() -> int:
    """How many processes the kernel has killed for memory, in our control group or on the machine."""
    for path in _counters():
        try:
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        except (OSError, ValueError):
            continue
    return 0


def _counters() -> list[Path]:
    counters: list[Path] = []
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        groups = []
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers == "":
            counters.append(Path(f"/sys/fs/cgroup{path}/memory.events"))
        elif controllers == "memory":
            counters.append(Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"))
    # A container often sees its own group at the root.
    counters += [Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")]
    return counters
