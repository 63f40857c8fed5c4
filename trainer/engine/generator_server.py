"""A generator's process: `python -m trainer.engine.generator_server DESCRIPTOR TRAINER_PID`.

The trainer starts it, owns it, and holds the other end of its socket. It answers tickets, takes over weights
between two tokens, and ends when the trainer ends, however that ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import torch

from trainer.engine.broadcast import Broadcast
from trainer.engine.failure import verdict_of
from trainer.engine.handover import Layout, Memory
from trainer.engine.served import Served, ServedNative, ServedVllm
from trainer.engine.tickets import answers_pack, ticket_unpack
from trainer.engine.wire import Frame, Wire, ready
from trainer.spans import WAIT
from trainer.stacks import stacks_allow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from trainer.engine.handover import Weights
    from trainer.spans import Span

STATES = {"busy_s": "rollout", "idle_s": WAIT, "sync_s": "sync"}
"""What is counted of the time here, and what it is called in the plan of the run."""
SPANS_MOST = 512
"""Spans that are kept for a trainer that reads nothing."""
BEAT_EVERY = 0.25
PR_SET_PDEATHSIG = 1


class Ended(Exception):
    """The trainer has gone, or wants us no more."""


class Server:
    """Serves one trainer until it goes."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.tokens = 0
        self.proven = False
        """Whether the engine has taken over weights and worked with them once."""
        self._spent = dict.fromkeys(STATES, 0.0)
        self._state = "idle_s"
        self._since = time.perf_counter()
        self._spans: deque[Span] = deque(maxlen=SPANS_MOST)
        """What was done since the last beat."""
        self._beat_at = 0.0
        self._engine: Served | None = None
        self._explained: Callable[[], AbstractContextManager[None]] = nullcontext
        self._slots: list[Memory] = []
        self._group: Broadcast | None = None
        self._probe: list[int] = []

    def run(self) -> None:
        """Build the engine, then serve. Raises Ended."""
        hello = self._first()
        torch.set_num_threads(int(hello["threads"]))
        stacks_allow(int(hello["watcher"]))
        if hello["engine"] == "vllm":
            # Loaded where it is wanted: vLLM takes seconds to import, and most machines have none.
            from trainer.engine.vllm_generator import explained  # noqa: PLC0415

            # Some of what it cannot do with a model shows at its first work only.
            self._explained = explained
        with self._explained():
            engine = self._engine = engine_build(hello)
        base = Layout.from_json(hello["base"])
        if base.entries:
            with Memory(base, hello["base_descriptor"]) as memory:
                engine.base_take(memory)
        layout = self._layout = Layout.from_json(hello["layout"])
        self._device = torch.device(hello["device"])
        self._slots = [Memory(layout, descriptor) for descriptor in hello["descriptors"]]
        self._probe = hello["probe"]
        self.wire.send({"op": "ready", "pid": os.getpid()})
        self._since = time.perf_counter()
        while True:
            if not engine.busy:
                self._enter("idle_s")
                ready([self.wire], BEAT_EVERY)
                self._turn()
                continue
            self._enter("busy_s")
            for number, answers in engine.work(self._turn):
                self.tokens += sum(len(answer.tokens) for answer in answers)
                self.wire.send(*answers_pack(number, answers))
            self._turn()

    def _enter(self, state: str) -> str:
        """Count the time since the last look, and go on in this state; returns the state before."""
        now, before = time.perf_counter(), self._state
        self._spent[before] += now - self._since
        self._spans.append((STATES[before], self._since, now))
        self._since, self._state = now, state
        return before

    def _first(self) -> dict[str, Any]:
        """The frame that says what is served."""
        while True:
            ready([self.wire], 60.0)
            for frame in self.wire.receive():
                return frame.header
            if self.wire.ended:
                raise Ended

    def _turn(self) -> None:
        """Between two tokens: obey what has come, send what waits, show that we live."""
        for frame in self.wire.receive():
            self._obey(frame)
        self.wire.flush()
        if self.wire.ended:
            raise Ended
        now = time.monotonic()
        # A trainer that learns reads nothing for a while: beats must not pile up.
        if now - self._beat_at >= BEAT_EVERY and not self.wire.pending:
            self._beat_at = now
            self._enter(self._state)
            did = list(self._spans)
            self._spans.clear()
            self.wire.send({"op": "beat", "tokens": self.tokens, **self._spent, "spans": did})

    def _obey(self, frame: Frame) -> None:
        engine, header = self._engine, frame.header
        assert engine is not None
        if header["op"] == "submit":
            engine.accept(ticket_unpack(frame))
        elif header["op"] == "drop":
            engine.drop(header["ticket"])
        elif header["op"] == "push":
            self._take(engine, header)
        elif header["op"] == "meet":
            place = (header["folder"], header["number"], header["size"])
            self._group = Broadcast(self._layout, *place, self._device)

    def _take(self, engine: Served, header: dict[str, Any]) -> None:
        """Take over weights and say what came of it."""
        before = self._enter("sync_s")
        weights: Weights
        if self._group is None:
            weights = self._slots[header["slot"]]
        else:
            self._group.receive()
            weights = self._group
        with nullcontext() if self.proven else self._explained():
            found = engine.take(weights, header["version"])
            logps = engine.probe(self._probe)
        if self._group is not None:
            self._group.forget()
        self.proven = True
        self._enter(before)
        self.wire.send({"op": "taken", "push": header["push"], "digest": found, "logps": logps})


def engine_build(hello: dict[str, Any]) -> Served:
    """The engine that the trainer asks for. Raises ValueError."""
    device = torch.device(hello["device"])
    if hello["engine"] == "native":
        return ServedNative(hello["folder"], hello["native"], device)
    from trainer.engine.vllm_engine import Build, VllmEngine  # noqa: PLC0415

    told = hello["vllm"]
    build = Build(**{**told, "eos_ids": tuple(told["eos_ids"])})
    return ServedVllm(VllmEngine(hello["folder"], build), hello["adapter"])


def die_with(parent: int) -> bool:
    """Be killed when the trainer ends, also by `kill -9`. False where it has ended already."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def main(arguments: Sequence[str]) -> int:
    """Serve until the trainer goes."""
    if not die_with(int(arguments[1])):
        return 0
    # Ctrl-C goes to the whole group: the trainer ends in order, and we end with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wire = Wire(socket.socket(fileno=int(arguments[0])))
    server = Server(wire)
    try:
        server.run()
    except Ended:
        return 0
    except BaseException as error:
        verdict = verdict_of(error)
        # The model is the user's to change where it cannot be built.
        cause, message = verdict.cause, verdict.message
        if isinstance(error, ValueError) and not server.proven:
            cause, message = "bad-input", str(error)
        elif cause == "crash":
            traceback.print_exc()
        wire.send({"op": "failed", "cause": cause, "message": message})
        while wire.pending and not wire.ended:
            ready([wire], 1.0)
            wire.flush()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
