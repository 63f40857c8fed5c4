"""The other processes of an attempt that trains in several: started by its first, watched by it, ended with it.

The first process (rank 0) is the trainer that host or the command line starts: it alone writes and obeys. It
starts the others in its own process group, so that whoever ends the group ends them all, and on Linux the kernel
ends them when the first one dies. A thread watches them: when one dies the others would wait for it in a
collective, so the first one is told, and ended by force when it does not end by itself. No torch in here.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from trainer.engine.failure import Failure, Verdict
from trainer.verdict import oom_kills, verdict_of_exit, word_read, word_write

if TYPE_CHECKING:
    from trainer.rundir import AttemptDir
    from trainer.spec import RunSpec

LOOK_EVERY = 0.1
"""Seconds between looks at the processes."""
OOM_EVERY = 5.0
ENDS_WITHIN = 15.0
"""Seconds that the first process may take to end by itself once another one has died."""
TOLD_WITHIN = 3.0
"""Seconds in which a process that died is found, after its closed connection was noticed."""
LEADER, GPUS = "ANNEAL_LEADER", "ANNEAL_RANK_GPUS"
"""In a follower's environment: the pid of the first process, and `resources.gpus`."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Followers:
    """Ranks 1 and up of one attempt."""

    def __init__(self, attempt: AttemptDir, spec: RunSpec) -> None:
        self.attempt, self.size = attempt, spec.resources.world
        self._wanted = spec.resources.gpus
        self._gpus: list[str] = []
        # Held from now on: nobody can take the port before the others have come.
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=2 * self.size)
        self.port: int = self.listening.getsockname()[1]
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._oom_before, self._oom_at = oom_kills(), time.monotonic()
        self._lost: Verdict | None = None
        self._lost_at = 0.0
        self._ending = threading.Event()

    def start(self) -> None:
        """Start them, and watch. Called before torch is loaded, so that all load it at the same time.

        Raises Failure when there are fewer GPUs than the spec asks for.
        """
        if isinstance(self._wanted, int) and self._wanted:
            self._gpus = _visible(self._wanted)
        os.environ.update(self._environment(0))
        run = str(self.attempt.path.parent)
        command = [sys.executable, "-m", "trainer.follower", "--dir", run]
        for rank in range(1, self.size):
            self._children[rank] = subprocess.Popen(
                [*command, "--attempt", str(self.attempt.number)],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **self._environment(rank),
                    LEADER: str(os.getpid()),
                    GPUS: str(self._wanted),
                },
            )
        threading.Thread(target=self._watch, name="followers", daemon=True).start()

    def _environment(self, rank: int) -> dict[str, str]:
        """As torchrun sets it: libraries and methods read these names."""
        found = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(self.size),
            "LOCAL_WORLD_SIZE": str(self.size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(self.port),
        }
        if sys.platform == "linux":
            # One machine: what ranks say to each other leaves it on no network.
            found |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
        if self._gpus:
            found[VISIBLE] = self._gpus[rank]
        return found

    # --- a death ---------------------------------------------------------------------------------

    def lost(self, within: float = 0.0) -> Verdict | None:
        """The end of the one that died first; None when none has died, or is found dead in so many seconds."""
        deadline = time.monotonic() + within
        while self._lost is None and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY / 2)
        return self._lost

    def _watch(self) -> None:
        while not self._ending.wait(LOOK_EVERY):
            if self._lost is None:
                self._look()
            elif time.monotonic() - self._lost_at > ENDS_WITHIN:
                self._end_by_force()

    def _look(self) -> None:
        for rank, child in self._children.items():
            code = child.poll()
            if code not in (None, 0) and not self._ending.is_set():
                self._lost_at, self._lost = time.monotonic(), self._verdict(rank, child, code)
                return
        if time.monotonic() - self._oom_at > OOM_EVERY:
            # Counted anew now and then: only a kill of the last seconds can be ours.
            self._oom_before, self._oom_at = oom_kills(), time.monotonic()

    def _verdict(self, rank: int, child: subprocess.Popen[bytes], code: int) -> Verdict:
        word = word_read(self.attempt.word(rank))
        if word is None:
            word = verdict_of_exit(code, (), oom_killed=oom_kills() > self._oom_before)
        cause = word.cause if word.state == "failed" else "crash"
        return Verdict(
            "failed",
            cause,
            f"Rank {rank} of {self.size} training processes (pid {child.pid}) ended first, and the attempt with "
            f"it: {word.message}",
        )

    def _end_by_force(self) -> None:
        """The first process waits for the dead one somewhere; host reads why it was ended."""
        assert self._lost is not None
        word_write(self.attempt.word(0), self._lost)
        for child in self._children.values():
            child.kill()
        os.kill(os.getpid(), signal.SIGKILL)

    # --- the end ---------------------------------------------------------------------------------

    def end(self, verdict: Verdict, within: float = 5.0) -> Verdict:
        """See that none is left; returns the verdict, or that of the one whose death has caused this crash.

        After a training that went to its end the others are about to end too, and have so many seconds for it.
        """
        if verdict.cause == "crash":
            verdict = self.lost(TOLD_WITHIN) or verdict
        self._ending.set()
        deadline = time.monotonic() + (within if verdict.state == "finished" else 0.0)
        for child in self._children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
        for child in self._children.values():
            child.wait()
        return verdict


def _visible(wanted: int) -> list[str]:
    """The GPUs that this process may use, one for each rank."""
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(index) for index in range(wanted)]
    found = [name for name in given.split(",") if name.strip()]
    if len(found) < wanted:
        raise Failure(
            "bad-input",
            f"resources.gpus: {wanted} are asked for and {VISIBLE} lets this process see {len(found)}; lower "
            "the number",
        )
    return found[:wanted]
