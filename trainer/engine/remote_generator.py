"""Samples in processes of their own, one or several side by side, while the trainer may do other things.

Prompts of a batch go round-robin to the replicas; answers come back in the order of their keys. Weights go
through shared memory in two slots that are used in turn, so handing them over waits for nobody but a replica
that has not taken the ones before; or by a broadcast (NCCL between GPUs), which waits until each replica has come
to the end of a token. A replica takes them between two tokens and goes on with the answers that
it is writing: their caches are computed anew by the new weights, and each token says which version drew it.
After each hand-over a replica tells the digest of what it took and what it says of a probe; both must be the
trainer's, else the run ends.
Legend: P prompts, S samples of each.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from trainer.engine.beside import News
from trainer.engine.broadcast import Broadcast
from trainer.engine.failure import Failure, Halt
from trainer.engine.generator_link import Link
from trainer.engine.generator_start import (
    base_weights_of,
    broadcasts,
    engine_of,
    environment,
    hello,
    moving_weights_of,
)
from trainer.engine.handover import Layout, Memory, digest
from trainer.engine.sampler import SAMPLING_FACTOR
from trainer.engine.tickets import Open, Ticket, answers_unpack, ticket_pack
from trainer.engine.vllm_engine import KEPT_VOCABULARY, no_truncation
from trainer.engine.weight_check import PROBE_TOKENS, difference, probe_logps, trusted
from trainer.engine.wire import ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch

    from trainer.engine.policy import Policy
    from trainer.engine.sampler import Sampled, Sampling
    from trainer.engine.seeds import Words
    from trainer.engine.wire import Frame
    from trainer.spec import RunSpec

POLL, BETWEEN = 0.05, 0.0005
"""Seconds between two looks: for what comes from others, and for a broadcast."""
LOOKS = 40
SLOTS = 2


@dataclass
class Push:
    """A hand-over that not every replica has confirmed."""

    version: int
    slot: int
    digest: int
    logps: list[float]
    missing: set[int]


class RemoteGenerator:
    """Samples with `rollout.replicas` processes, each with a copy of the policy's weights."""

    holds_copy = True

    def __init__(
        self, spec: RunSpec, policy: Policy, probe: list[int], tick: Callable[[], None]
    ) -> None:
        """Start the processes and give them the weights. `tick` is called while they are waited for.

        Raises Failure (`bad-input`) or ValueError with the field and what to change.
        """
        self.name = engine_of(spec)
        self.tells_entropy = self.name == "native"
        self.policy, self._tick = policy, tick
        self._budget = SAMPLING_FACTOR * spec.batch.tokens_per_microbatch
        self._probe = probe[:PROBE_TOKENS]
        self._dtype = str(policy.dtype).removeprefix("torch.")
        self._open: dict[int, Open] = {}
        self._finished: dict[int, list[Sampled]] = {}
        self._pushes: dict[int, Push] = {}
        self._pushed: int | None = None
        self._numbers, self._synchronous = count(), count(-1, -1)
        self._links: list[Link] = []
        base, moving = base_weights_of(policy, self.name), moving_weights_of(self.policy, self.name)
        self._layout = Layout.of(moving)
        self._broadcasts = broadcasts(spec, policy.device)
        self._group: Broadcast | None = None
        self._meeting: tempfile.TemporaryDirectory[str] | None = None
        shared = [] if self._broadcasts else range(SLOTS)
        self._slots = [Memory(self._layout) for _ in shared]
        try:
            self._start(spec, base)
            self.sync()
        except BaseException:
            self.close()
            raise

    def _start(self, spec: RunSpec, base: dict[str, torch.Tensor]) -> None:
        """Start the processes and wait until all have built their engines."""
        memory = Memory(Layout.of(base))
        with memory, tempfile.TemporaryDirectory(prefix="anneal-generator-") as folder:
            memory.write(base)
            descriptors = [slot.descriptor for slot in self._slots]
            told = hello(spec, self.policy, self._probe, folder) | {
                "base": memory.layout.to_json(),
                "base_descriptor": memory.descriptor,
                "layout": self._layout.to_json(),
                "descriptors": descriptors,
            }
            for number in range(spec.rollout.replicas):
                env = environment(spec, self.policy.device, number)
                self._links.append(Link(number, [*descriptors, memory.descriptor], env))
                self._links[-1].send(told)
            self._until(lambda: all(link.ready for link in self._links), self._tick)
            if self._broadcasts:
                self._meet(spec.rollout.replicas + 1)

    def _meet(self, size: int) -> None:
        """Join the group that weights are broadcast in."""
        self._meeting = tempfile.TemporaryDirectory(prefix="anneal-broadcast-")
        for link in self._links:
            place = {"folder": self._meeting.name, "number": link.number + 1, "size": size}
            link.send({"op": "meet", **place})
        self._sent()
        self._group = Broadcast(self._layout, self._meeting.name, 0, size, self.policy.device)

    def close(self) -> None:
        """End the processes."""
        for link in self._links:
            link.close()
        self._links = []
        for slot in self._slots:
            slot.close()
        if self._group is not None:
            self._group.close()
            self._group = None
        if self._meeting is not None:
            self._meeting.cleanup()

    def rest(self) -> None:
        """Nothing: its processes go on."""

    # --- weights ---------------------------------------------------------------------------------

    def push(self, version: int) -> None:
        """Hand over the policy's weights as `version`, also while answers are being written.

        Returns once they are copied; the trainer may change its own at once. Every replica takes them at
        its next token. What comes of it is looked at whenever this object is used: Failure
        (`weight-sync`) when a replica has other weights than it was given.
        """
        self._turn(0)
        self._until(lambda: self._slot_free() is not None, self._tick)
        slot = self._slot_free()
        assert slot is not None
        number, moving = next(self._numbers), moving_weights_of(self.policy, self.name)
        found = self._slots[slot].write(moving) if self._slots else digest(moving.values())
        logps = probe_logps(self.policy, self._probe)
        missing = {link.number for link in self._links}
        self._pushes[number] = Push(version, slot, found, logps, missing)
        for link in self._links:
            link.send({"op": "push", "push": number, "version": version, "slot": slot})
        self._pushed = version
        self._sent()
        if self._group is not None:
            self._give(self._group, moving)

    def _give(self, group: Broadcast, moving: Mapping[str, torch.Tensor]) -> None:
        """Broadcast the weights to replicas that were told to take them.

        Whole also when the run is to end meanwhile: a replica that has half of them takes what comes next for
        the rest.
        """
        halt: Halt | None = None

        def tick() -> None:
            nonlocal halt
            try:
                self._tick()
            except Halt as found:
                halt = found

        def wait(reached: Callable[[], bool]) -> None:
            self._until(reached, tick, pause=BETWEEN)

        try:
            group.send(moving, wait)
        except RuntimeError as error:
            self._pushed = None
            # Whoever died is known a moment later, and says more than a connection that broke.
            self._until(
                lambda: any(link.wire.ended for link in self._links), self._tick, most=LOOKS
            )
            self._turn(0)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise Failure(
                "weight-sync",
                f"rollout.weight_transport: the broadcast of the weights broke off ({reason}); set it to "
                '"shared-memory"',
            ) from error
        if halt is not None:
            raise halt

    def _slot_free(self) -> int | None:
        taken = {push.slot for push in self._pushes.values()}
        return next((slot for slot in range(SLOTS) if slot not in taken), None)

    def sync(self) -> None:
        """Hand the weights over if they have moved since the last time; every replica has them behind this."""
        if self._pushed != self.policy.version:
            self.push(self.policy.version)
        self._until(lambda: not self._pushes, self._tick)

    def _taken(self, link: Link, header: dict[str, Any]) -> None:
        """A replica has taken over weights."""
        push = self._pushes[header["push"]]
        try:
            if header["digest"] != push.digest:
                raise Failure(
                    "weight-sync",
                    f"rollout.placement: process {link.pid}, which samples answers, holds other weights "
                    f"than those of version {push.version} that it was given; samples would not be the "
                    'policy\'s. Set it to "colocated", or report this model.',
                )
            trusted(difference(push.logps, header["logps"]), self._dtype, self.name)
        except Failure:
            self._pushed = None
            raise
        finally:
            push.missing.discard(link.number)
            if not push.missing:
                del self._pushes[header["push"]]

    # --- answers ---------------------------------------------------------------------------------

    def submit(
        self,
        ticket: int,
        prompts: list[list[int]],
        keys: Words,
        how: Sampling,
        *,
        budget: int | None = None,
    ) -> None:
        """Put a batch in line and return; keys (P, S). Numbers below 0 are `sample`'s own, which the native
        engine draws before the others. Raises ValueError when the number is in use."""
        if ticket in self._open or ticket in self._finished:
            raise ValueError(f"ticket {ticket} has been handed in and not been taken away")
        vllm_cannot = how.truncates and self.policy.vocabulary > KEPT_VOCABULARY
        if self.name == "vllm" and vllm_cannot:
            raise Failure("bad-input", no_truncation(self.policy.vocabulary))
        whole = Ticket(ticket, prompts, keys, how, budget or self._budget, urgent=ticket < 0)
        if not whole.answers:
            self._finished[ticket] = []
            return
        self._open[ticket] = opened = Open(keys.shape[1], [None] * whole.answers, set())
        for link in self._links:
            share = whole.share(link.number, len(self._links))
            if share.prompts:
                opened.missing.add(link.number)
                link.send(*ticket_pack(share))
        self._sent()

    def done(self) -> list[tuple[int, list[Sampled]]]:
        """Tickets that are done, in the order in which they were, each given out once. Waits for nothing."""
        self._turn(0)
        found, self._finished = list(self._finished.items()), {}
        return found

    def wait(self, ticket: int, tick: Callable[[], None]) -> list[Sampled]:
        """Wait for a ticket and take it away. Raises Failure when a process has ended, KeyError when unknown.

        `tick` is called as long as the processes show life: a process that hangs makes the trainer fall
        silent, so that host examines the whole group as it would a hung trainer.
        """
        if ticket not in self._finished and ticket not in self._open:
            raise KeyError(ticket)
        self._until(lambda: ticket in self._finished, tick)
        return self._finished.pop(ticket)

    def cancel(self, ticket: int) -> None:
        """Forget a ticket, done or not."""
        self._finished.pop(ticket, None)
        opened = self._open.pop(ticket, None)
        for link in self._links:
            if opened is not None and link.number in opened.missing:
                link.send({"op": "drop", "ticket": ticket})

    def sample(
        self,
        prompts: list[list[int]],
        keys: Words,
        how: Sampling,
        *,
        budget: int,
        tick: Callable[[], None],
    ) -> list[Sampled]:
        """Answers in the order of `keys` (P, S) by the policy as it stands."""
        self.sync()
        ticket = next(self._synchronous)
        self.submit(ticket, prompts, keys, how, budget=budget)
        try:
            return self.wait(ticket, tick)
        except BaseException:
            # Somebody wants the run to end, and may want it to go on sampling at its end.
            self.cancel(ticket)
            raise

    def stats(self) -> dict[str, float]:
        """Sums over the replicas since their start, a quarter of a second old at most while they are read.

        `busy_s`, `idle_s` and `sync_s` of sampling, waiting and taking over weights; `tokens` of finished
        tickets; `depth` in tickets and `answers` that have not come back; `pushes` not confirmed by all.
        """
        names = ("busy_s", "idle_s", "sync_s", "tokens")
        found = {name: sum(link.beat.get(name, 0) for link in self._links) for name in names}
        # A replica gives its whole share at once.
        waiting = sum(each is None for opened in self._open.values() for each in opened.answers)
        replicas, depth = len(self._links), len(self._open)
        return found | {
            "replicas": replicas,
            "depth": depth,
            "answers": waiting,
            "pushes": len(self._pushes),
        }

    def news(self) -> list[News]:
        """What each replica did since the last call, as far as it has told; waits for nothing."""
        self._turn(0)
        found = []
        for link in self._links:
            name = f"generator {link.number}" if len(self._links) > 1 else "generator"
            found.append(News(name, list(link.spans)))
            link.spans.clear()
        return found

    # --- the processes ---------------------------------------------------------------------------

    def _sent(self) -> None:
        """Wait until everything is on its way: the trainer may be busy elsewhere for long."""
        self._until(lambda: not any(link.wire.pending for link in self._links), self._tick)

    def _until(
        self,
        reached: Callable[[], bool],
        tick: Callable[[], None],
        *,
        pause: float = POLL,
        most: int = 0,
    ) -> None:
        """Obey what comes until something is reached, or after so many looks where `most` is not 0."""
        looks = 0
        while not reached() and (not most or looks < most):
            looks += 1
            self._turn(pause)
            if all(link.lively for link in self._links):
                tick()

    def _turn(self, seconds: float) -> None:
        """Take what has come, waiting for it so long at most. Raises Failure."""
        ready([link.wire for link in self._links], seconds)
        for link in self._links:
            for frame in link.receive():
                self._obey(link, frame)

    def _obey(self, link: Link, frame: Frame) -> None:
        header = frame.header
        if header["op"] == "ready":
            link.ready = True
        elif header["op"] == "taken":
            self._taken(link, header)
        elif header["op"] == "answers":
            self._place(link, frame)

    def _place(self, link: Link, frame: Frame) -> None:
        """Put a replica's answers where they belong."""
        ticket = frame.header["ticket"]
        opened = self._open.get(ticket)
        if opened is None:
            return
        for index, answer in enumerate(answers_unpack(frame)):
            prompt = answer.prompt * len(self._links) + link.number
            answer.prompt = prompt
            opened.answers[prompt * opened.samples + index % opened.samples] = answer
        opened.missing.discard(link.number)
        if not opened.missing:
            del self._open[ticket]
            self._finished[ticket] = [each for each in opened.answers if each is not None]
