"""What host does about a trainer that falls silent: gather evidence, tell people, and what the policy says."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

from trainer.evidence import Gathering, cpu_of
from trainer.stall import QUIET, StallWatch, Whereabouts, doing_read
from trainer.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trainer.children import Trainer
    from trainer.control import Control
    from trainer.evidence import Evidence
    from trainer.rundir import AttemptDir
    from trainer.stall import Told

UNKILLABLE_AFTER = 10.0
"""Seconds after SIGKILL from which a process that is still there is told of."""
POLICIES = {
    "tell": "Nothing is done about it: the policy is to tell.",
    "restart": "By its policy the trainer is ended by force and the run goes on from its newest checkpoint.",
    "stop": "By its policy the trainer is ended by force and the run ends.",
}


class Vigil:
    """Watches over the silence of one attempt's trainer."""

    def __init__(
        self, attempt: AttemptDir, trainer: Trainer, note: Callable[..., object], told: Told
    ) -> None:
        self.attempt, self.trainer, self.told = attempt, trainer, told
        self.watch = StallWatch()
        self.whereabouts = Whereabouts(attempt.doing)
        self.killed_at: float | None = None
        self._note = note
        self._gathering: Gathering | None = None
        self._reported = False
        self._before: dict[int, float] | None = None
        """CPU seconds of each process early in this silence."""
        self._before_at = 0.0
        self._phase = ""
        self._doing = told
        """Where it is, by the newest that it said or wrote."""
        self._silent = 0.0
        self._unkillable = False

    def take_over(self, events: Iterable[dict[str, Any]]) -> None:
        """Go on where a host that died stood: a stall that it reported is not reported again,
        and where its trainer has come so far is no sign that it lives now."""
        self.whereabouts.moved()
        for event in events:
            if event.get("type") == "alert" and event.get("code") in ("stall", "stall-over"):
                self.watch.stalled = self._reported = event["code"] == "stall"
                self._phase = str((event.get("data") or {}).get("phase", ""))

    def look(self, now: float, *, spoke: bool, order: Control) -> None:
        """One turn of host's loop; `spoke` when lines of the trainer were read in it. The file `doing` is
        written before each promise in a line, and more often: what it expects is in force."""
        spoke = self.whereabouts.moved() or spoke
        if spoke or self.watch.heard_at is None:
            self._doing = doing_read(self.attempt.doing, self.told)
        promise = self._doing.promise
        found = self.watch.look(now, spoke=spoke, promise=promise)
        if spoke:
            self._before = None
        elif self._before is None and self.watch.silence(now) > max(QUIET, promise / 4):
            self._before, self._before_at = cpu_of(self.trainer.pid), now
        if found == "stall":
            self._begin(now)
        elif found == "over":
            self._over()
        if self._gathering is not None and self._gathering.ready(now):
            self._tell(now, self._gathering.evidence, order)
        if self.watch.stalled and self._reported:
            self._act(now, order)

    def verdict(self) -> Verdict | None:
        """The end of a trainer that was ended for its silence; None where it was not."""
        if self.killed_at is None:
            return None
        phase = self._phase or self.told.phase
        message = (
            f"Stalled in {phase}: it said nothing for {self._silent:.0f} s and was ended by force."
        )
        return Verdict("failed", "stall", message)

    def _begin(self, now: float) -> None:
        self._phase, self._reported = self._doing.phase, False
        before = {} if self._before is None else self._before
        since = now if self._before is None else self._before_at
        self._gathering = Gathering(
            self.trainer.pid, self.attempt.stacks, before, since, _gpus_given(self.attempt)
        )

    def _over(self) -> None:
        """It speaks again. What nobody was told of needs no end."""
        self._gathering = None
        if self._reported:
            self._reported = False
            message = f"The trainer speaks again, after it had stalled in {self._phase}."
            self._note(
                "alert",
                level="info",
                code="stall-over",
                message=message,
                step=self.told.step,
                data={"phase": self._phase},
            )

    def _tell(self, now: float, evidence: Evidence, order: Control) -> None:
        self._gathering, self._reported = None, True
        told, silent = self._doing, self.watch.silence(now)
        policy = order.on_stall if order.on_stall in POLICIES else "tell"
        ends = (
            "It is ended anyway, as it was asked to." if order.want != "run" else POLICIES[policy]
        )
        message = (
            f"Stalled in {told.phase}: the trainer has said nothing for {silent:.0f} s, where "
            f"{told.promise:.3g} s were expected at most ({told.because}). {evidence.words()} {ends}"
        )
        self._note(
            "alert",
            level="warning",
            code="stall",
            message=message,
            step=told.step,
            data={
                "phase": told.phase,
                "silent_s": round(silent, 1),
                "expected_s": round(told.promise, 1),
                "because": told.because,
                "evidence": evidence.words(),
                "policy": policy,
                "gpu": list(evidence.gpus),
                "processes": list(evidence.processes),
                "stacks": evidence.stacks,
                "stacks_problem": evidence.stacks_problem,
            },
        )

    def _act(self, now: float, order: Control) -> None:
        """Do what the policy says, also when it was changed meanwhile. A stop that was asked for has its own
        deadlines."""
        if self.killed_at is not None:
            self._still_there(now)
        elif order.want == "run" and order.on_stall in ("restart", "stop") and self.trainer.alive():
            self.killed_at, self._silent = now, self.watch.silence(now)
            self._note(
                "alert",
                level="warning",
                code="stall-ended",
                message=f"The trainer was ended by force (SIGKILL) after {self._silent:.0f} s of silence, as the "
                f"policy says: {order.on_stall}.",
                step=self.told.step,
            )
            # Not TERM: what hangs cannot save, and a stopped process does not hear it.
            self.trainer.signal(signal.SIGKILL)

    def _still_there(self, now: float) -> None:
        assert self.killed_at is not None
        if self._unkillable or now - self.killed_at < UNKILLABLE_AFTER or not self.trainer.alive():
            return
        self._unkillable = True
        self._note(
            "alert",
            level="error",
            code="unkillable",
            message=f"The trainer's process {self.trainer.pid} is still there {now - self.killed_at:.0f} s after "
            "SIGKILL: the kernel waits for a device or a file system on its behalf (state D). It ends as soon as "
            "that answers, or with the machine; until then it keeps what it holds.",
            step=self.told.step,
        )


def _gpus_given(attempt: AttemptDir) -> list[int] | None:
    """Indices of the GPUs that the attempt was given; None where nobody gave any."""
    try:
        found = json.loads(attempt.lease.read_text()).get("gpus")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, list) else None
