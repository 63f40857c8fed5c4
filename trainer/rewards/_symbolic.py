"""Symbolic equality by math-verify, in a process of its own: it evaluates expressions and can block.

The parent speaks JSON lines with it. An expression that takes longer than the limit is given up; a
process that does not even notice is killed and started again at the next question.
"""

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import FrameType

SECONDS = 1.0
"""Longest answer, in processor time: a busy machine must not change a score."""
_WALL_SECONDS = 5.0
"""After this a process that has not even noticed its limit is killed."""
MOST_CHARACTERS = 300
_START_SECONDS = 60.0
_MEMORY = 2 * 2**30
COUNTS: Counter[str] = Counter()
"""`timeouts`: questions given up, `questions`: all of them, in this process."""


class GaveUp(BaseException):
    """Not an Exception: the libraries in between catch those."""


class Worker:
    """One process that answers whether two expressions are equal."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def equal(self, gold: str, answer: str) -> bool | None:
        """True or False; None when it took too long or cannot be told. Longer texts are never equal."""
        if max(len(gold), len(answer)) > MOST_CHARACTERS:
            return False
        with self._lock:
            COUNTS["questions"] += 1
            try:
                process = self._running()
                assert process.stdin is not None
                process.stdin.write(json.dumps([gold, answer]).encode() + b"\n")
                process.stdin.flush()
                reply = self._line(_WALL_SECONDS)
            except (OSError, TimeoutError):
                COUNTS["timeouts"] += 1
                self._kill()
                return None
        value = json.loads(reply)
        if value == "timeout":
            COUNTS["timeouts"] += 1
            return None
        return bool(value) if isinstance(value, bool) else None

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            root = str(Path(__file__).resolve().parents[2])
            path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainer.rewards._symbolic"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                bufsize=0,
            )
            self._line(_START_SECONDS)
        return self._process

    def _line(self, seconds: float) -> bytes:
        assert self._process is not None and self._process.stdout is not None
        end = time.monotonic() + seconds
        line = b""
        while not line.endswith(b"\n"):
            left = end - time.monotonic()
            if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError
            chunk = self._process.stdout.read(4096)
            if not chunk:
                raise BrokenPipeError("the worker ended")
            line += chunk
        return line

    def _kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()
        self._process = None


WORKER = Worker()
atexit.register(WORKER.close)


def _alarm(number: int, frame: FrameType | None) -> None:
    raise GaveUp


def _equal(gold: str, answer: str) -> bool:
    from math_verify import parse, verify

    # Their own time-outs count wall time and one step each; ours covers both.
    sides = [parse(f"${text}$", parsing_timeout=None) for text in (gold, answer)]
    return bool(verify(sides[0], sides[1], timeout_seconds=None))


def _serve() -> None:
    """Answer questions until the parent closes the pipe."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, _alarm)
    # What the libraries print must not be taken for an answer.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _equal("x", "x")
    replies.write(b"ready\n")
    for line in sys.stdin:
        reply: bool | str | None
        try:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                reply = _equal(*json.loads(line))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
        except GaveUp:
            reply = "timeout"
        except (Exception, RecursionError, MemoryError):
            reply = None
        replies.write(json.dumps(reply).encode() + b"\n")


if __name__ == "__main__":
    _serve()
