"""Where a process stands: the stacks of all its Python threads, taken from outside.

py-spy reads the memory of a process without pausing it, so a stopped one can be read too and nothing that goes
wrong here touches the trainer. Where the system does not allow that, the trainer writes its stacks itself on
SIGUSR1 (`faulthandler`), as long as it can still take a signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.rundir import AttemptDir

TEXT_MOST = 64 << 10
SPY_WITHIN = 15.0
"""Seconds for one process."""
TRIES = 3
"""A process that moves while it is read may give nonsense once."""
SELF_WITHIN = 3.0
PROCESSES_MOST = 8
PR_SET_PTRACER = 0x59616D61
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def stacks_offer(attempt: AttemptDir) -> None:
    """Let host read our stacks, and write them to stacks.txt on SIGUSR1. Called in the trainer."""
    stacks_allow(os.getppid())
    with contextlib.suppress(OSError, ValueError, AttributeError):
        # Kept open for as long as we live: the handler writes to its descriptor.
        file = attempt.stacks.open("ab", buffering=0)
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=True)


def stacks_allow(reader: int) -> None:
    """Let a process and its children read our memory. Where Yama guards processes, only an ancestor may, and
    py-spy is not ours but our parent's child."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PTRACER, reader, 0, 0, 0)


def stacks_of(pids: Sequence[int], own: Path) -> tuple[str, str]:
    """The stacks of these processes as text, the first one's first, and why there are none or fewer.

    `own` is where the first one writes its stacks itself.
    """
    texts: list[str] = []
    problem = ""
    for pid in pids[:PROCESSES_MOST]:
        text, why = _spy(pid)
        if not text and pid == pids[0]:
            problem = why
            text, why = _self_written(pid, own)
            problem = "" if text else f"{problem}; {why}"
        if text:
            texts.append(text)
    return bounded("\n".join(texts)), problem


def bounded(text: str) -> str:
    """Text that can be stored and shown: no control characters, and no more than 64 KiB."""
    text = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
    raw = text.encode(errors="backslashreplace")
    if len(raw) <= TEXT_MOST:
        return raw.decode()
    return raw[: TEXT_MOST - 40].decode(errors="ignore") + f"\n… cut, {len(raw)} bytes in all"


def _spy(pid: int) -> tuple[str, str]:
    """What py-spy says of one process, or why it says nothing."""
    command = _py_spy()
    if command is None:
        return "", "py-spy is not installed"
    why = ""
    for _ in range(TRIES):
        try:
            done = subprocess.run(
                [command, "dump", "--nonblocking", "--full-filenames", "--pid", str(pid)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=SPY_WITHIN,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "", f"py-spy did not answer within {SPY_WITHIN:.0f} s"
        except OSError as error:
            return "", f"py-spy cannot be started ({error})"
        text = done.stdout.decode(errors="backslashreplace").strip()
        if done.returncode == 0 and "Thread " in text:
            return text + "\n", ""
        lines = done.stderr.decode(errors="backslashreplace").strip().splitlines()
        why = f"py-spy: {' '.join(line.strip() for line in lines[:5])[:300] or 'no stacks'}"
    return "", why


def _py_spy() -> str | None:
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.exists() else shutil.which("py-spy")


def _self_written(pid: int, own: Path) -> tuple[str, str]:
    """What the process writes of itself on SIGUSR1, if it takes it: anybody else it would kill."""
    if not takes(pid, signal.SIGUSR1):
        return "", "it does not take SIGUSR1"
    try:
        before = own.stat().st_size
        os.kill(pid, signal.SIGUSR1)
        deadline, size = time.monotonic() + SELF_WITHIN, before
        while time.monotonic() < deadline:
            time.sleep(0.2)
            # Written in many small pieces: it is whole once it grows no more.
            now = own.stat().st_size
            if now == size > before:
                break
            size = now
        with own.open("rb") as file:
            file.seek(before)
            text = file.read(TEXT_MOST).decode(errors="backslashreplace").strip()
    except OSError as error:
        return "", f"its own stacks could not be read ({error})"
    return (
        (f"Written by process {pid} itself:\n{text}\n", "")
        if text
        else ("", "it did not answer SIGUSR1")
    )


def takes(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal, and is not stopped."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    caught = int(found.get("SigCgt", "0").strip() or "0", 16)
    return bool(caught >> (number - 1) & 1) and found.get("State", "").strip()[:1] not in ("T", "t")
