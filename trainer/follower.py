"""One of the other processes of a training: `python -m trainer.follower --dir D --attempt K`.

Started by the first one (`followers`), which tells it everything else once both have met. It writes no journal and
obeys no orders; how it failed it leaves in `attempt-K/rank-R.json`, for the first one to tell.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path

import psutil

from trainer.events import EXIT_FAILED, EXIT_FINISHED
from trainer.followers import LEADER
from trainer.rundir import AttemptDir, RunDir
from trainer.stacks import stacks_allow
from trainer.verdict import word_write

PR_SET_PDEATHSIG = 1

# As in `__main__`: the slow imports come after what must be done at once.
# ruff: noqa: PLC0415


def main(argv: list[str] | None = None) -> int:
    """Follow to the end of the training; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.follower", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the run's directory")
    parser.add_argument("--attempt", type=int, required=True, help="number of the attempt")
    options = parser.parse_args(argv)
    run = RunDir(options.dir)
    attempt = run.attempt(options.attempt)
    leader = int(os.environ[LEADER])
    if not _tied_to(leader):
        return EXIT_FAILED
    # The first one decides when to stop, and has all of us end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(psutil.Error):
        # Who looks at stacks is a child of host, which started the first one.
        stacks_allow(psutil.Process(leader).ppid())
    return _follow(run, attempt)


def _tied_to(leader: int) -> bool:
    """See that the kernel ends us with the first process; whether that is still there."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == leader


def _follow(run: RunDir, attempt: AttemptDir) -> int:
    from trainer.engine.failure import Halt, verdict_of

    try:
        from trainer.engine.together import follow

        follow(run, attempt)
    except Halt:
        return EXIT_FINISHED
    except BaseException as error:
        verdict = verdict_of(error)
        if verdict.cause == "crash":
            import traceback

            traceback.print_exc()
        word_write(attempt.word(int(os.environ["RANK"])), verdict)
        return verdict.exit_code or EXIT_FAILED
    return EXIT_FINISHED


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not by way of the interpreter's end, where threads of the communication may wait for ranks that are gone.
    os._exit(code)
