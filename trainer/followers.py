"""The other processes of an attempt that trains in several: started by its first, watched by it, ended with it.

The first process (rank 0) is the trainer that host or the command line starts: it alone writes and obeys. It
starts the others in its own process group, so that whoever ends the group ends them all, and on Linux the kernel
ends them when the first one dies. A thread watches them: when one dies the others would wait for it in a
collective, so the first one is told, and ended by force when it does not end by itself. No torch in here.

Where the attempt has several machines, this is the first one's view: of the others it hears at the `meeting`, and
on each of them a `deputy` starts the processes there.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, cast

from trainer.engine.failure import Failure, Verdict
from trainer.gang import LOOPBACK, interface_of, listen
from trainer.meeting import Meeting
from trainer.verdict import oom_kills, verdict_of_exit, word_read, word_write

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Literal

    from trainer.events import Cause
    from trainer.gang import Gang
    from trainer.rundir import AttemptDir
    from trainer.spec import RunSpec

LOOK_EVERY = 0.1
"""Seconds between looks at the processes."""
OOM_EVERY = 5.0
ENDS_WITHIN = 15.0
"""Seconds that the first process may take to end by itself once another one has died."""
COME_WITHIN = 3600.0
"""Seconds that the other machines may take to prepare; the server, which hears them, gives them up before."""
TOLD_WITHIN = 3.0
"""Seconds in which a process that died is found, after its closed connection was noticed."""
LEADER, GPUS, INPUTS = "ANNEAL_LEADER", "ANNEAL_RANK_GPUS", "ANNEAL_RANK_INPUTS"
"""In a follower's environment: the pid of who started it, `resources.gpus`, and where models and data lie that lie
elsewhere than on the first machine."""
VISIBLE = "CUDA_VISIBLE_DEVICES"


class Followers:
    """Ranks 1 and up of one attempt."""

    def __init__(self, attempt: AttemptDir, spec: RunSpec, gang: Gang | None = None) -> None:
        """Raises OSError when this machine cannot listen on its address."""
        address = LOOPBACK if gang is None else gang.address
        # Held from now on: nobody can take the port before the others have come.
        self.listening = listen(address, 2 * spec.resources.world)
        port: int = self.listening.getsockname()[1]
        self._take(attempt, spec, range(1, spec.resources.local), (address, port))
        self.meeting: Meeting | None = None
        if gang is not None:
            self.meeting = Meeting(gang, attempt.number, port, self._works)

    def _take(
        self, attempt: AttemptDir, spec: RunSpec, ranks: range, place: tuple[str, int]
    ) -> None:
        """Note which ranks are started here, and the address and port where all of them meet."""
        self.attempt, self.size = attempt, spec.resources.world
        self.address, self.port = place
        self.where = ""
        """On which machine, as a message says it."""
        self._ranks, self._local = ranks, spec.resources.local
        self._wanted: int | Literal["auto"] = spec.resources.gpus
        self._gpus: list[str] = []
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._oom_before, self._oom_at = oom_kills(), time.monotonic()
        self._lost: Verdict | None = None
        self._lost_at = 0.0
        self._ending = threading.Event()

    def announced(self) -> dict[str, Any]:
        """What the first line of the journal says for the other machines: where this one awaits them."""
        if self.meeting is None:
            return {}
        return {"meeting": {"address": self.address, "port": self.meeting.port}}

    def start(self, tick: Callable[[], object] = lambda: None) -> None:
        """Start them, and watch. Called before torch is loaded, so that all load it at the same time.

        Raises Failure when there are fewer GPUs than the spec asks for, or a machine does not come; `tick` is
        called while they are awaited.
        """
        self._gpus_pick()
        os.environ.update(self._environment(0))
        if self.meeting is not None:
            _await(self.meeting, tick)
        self._start()

    def _gpus_pick(self) -> None:
        if isinstance(self._wanted, int) and self._wanted:
            self._gpus = _visible(self._wanted)

    def _start(self) -> None:
        run = str(self.attempt.path.parent)
        command = [sys.executable, "-m", "trainer.follower", "--dir", run]
        for rank in self._ranks:
            self._children[rank] = subprocess.Popen(
                [*command, "--attempt", str(self.attempt.number)],
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    **self._environment(rank),
                    **self._more(),
                    LEADER: str(os.getpid()),
                    GPUS: str(self._wanted),
                },
            )
        threading.Thread(target=self._watch, name="followers", daemon=True).start()

    def _environment(self, rank: int) -> dict[str, str]:
        """As torchrun sets it: libraries and methods read these names."""
        found = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank % self._local),
            "WORLD_SIZE": str(self.size),
            "LOCAL_WORLD_SIZE": str(self._local),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }
        if sys.platform == "linux" and (interface := interface_of(self._own_address())):
            # What ranks say to each other leaves by no other network; on one machine by none.
            found |= {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
        if self._gpus:
            found[VISIBLE] = self._gpus[rank % self._local]
        return found

    def _own_address(self) -> str:
        return self.address

    def _more(self) -> dict[str, str]:
        """What else the processes here must know."""
        return {}

    def _works(self, member: int) -> None:
        """Another machine's processes work: note it where those of this one note it themselves."""
        self.attempt.alive(f"rank-{member * self._local}").touch()

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
                self._hear()
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

    def _hear(self) -> None:
        """Look whether another machine has lost one."""
        if self._lost is not None or self.meeting is None:
            return
        if (word := self.meeting.lost()) is not None:
            cause = cast("Cause", word.cause)
            self._lost_at = time.monotonic()
            self._lost = Verdict("failed", cause, word.message)

    def _verdict(self, rank: int, child: subprocess.Popen[bytes], code: int) -> Verdict:
        word = word_read(self.attempt.word(rank))
        if word is None:
            word = verdict_of_exit(code, (), oom_killed=oom_kills() > self._oom_before)
        cause = word.cause if word.state == "failed" else "crash"
        return Verdict(
            "failed",
            cause,
            f"Rank {rank} of {self.size} training processes (pid {child.pid}{self.where}) ended first, and the "
            f"attempt with it: {word.message}",
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
        if self.meeting is not None:
            self.meeting.end(verdict)
        deadline = time.monotonic() + (within if verdict.state == "finished" else 0.0)
        for child in self._children.values():
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
        for child in self._children.values():
            child.wait()
        return verdict


def _await(meeting: Meeting, tick: Callable[[], object]) -> None:
    """Wait until all machines have come, which may still fetch what they need."""
    deadline = time.monotonic() + COME_WITHIN
    while missing := meeting.missing():
        tick()
        if (word := meeting.lost()) is not None:
            raise Failure(cast("Cause", word.cause), word.message)
        if time.monotonic() > deadline:
            raise Failure("node-lost", f"{', '.join(missing)} did not come to the training")
        time.sleep(LOOK_EVERY)
    meeting.begin()


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
