"""What works for an attempt on another machine than its first: `python -m trainer.deputy --dir D --attempt K`.

Started by host like a trainer. It asks the server where the first machine awaits it, meets it there, starts this
machine's processes and watches them: when one dies it tells, when the first machine ends it ends them. It holds no
model and writes no journal; how it ended it leaves in `attempt-K/rank-0.json` for host.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.control import ControlReader
from trainer.engine.failure import Failure, Halt, Verdict, verdict_of
from trainer.followers import INPUTS, LOOK_EVERY, Followers
from trainer.gang import gang_read
from trainer.meeting import Line
from trainer.rendezvous import Over, rendezvous
from trainer.rundir import RunDir
from trainer.spec import spec_parse
from trainer.specfile import with_overrides
from trainer.stacks import stacks_offer
from trainer.verdict import word_write

if TYPE_CHECKING:
    from types import FrameType

    from trainer.gang import Gang
    from trainer.rundir import AttemptDir
    from trainer.spec import RunSpec

TELL_EVERY = 1.0
BEGINS_WITHIN = 3600.0
"""Seconds that the others may take to come; the server gives them up before."""
ENDS_WITHIN = 60.0
"""Seconds between the end of the processes here and the first machine's word, after a training that went to its
end: it may still save."""


class Detachment(Followers):
    """The processes of this machine."""

    def __init__(
        self,
        attempt: AttemptDir,
        spec: RunSpec,
        gang: Gang,
        place: tuple[str, int],
        inputs: dict[str, Any],
    ) -> None:
        """`place`: where all processes meet; `inputs`: where models and data lie here."""
        count = spec.resources.local
        ranks = range(gang.index * count, (gang.index + 1) * count)
        self._take(attempt, spec, ranks, place)
        self._gang, self._inputs, self.meeting = gang, inputs, None
        self.where = f" on {gang.name}"
        self._stamps: list[int] = []

    def begin(self) -> None:
        """Start them, and watch. Raises Failure when there are fewer GPUs than the spec asks for."""
        self._gpus_pick()
        self._start()

    def worked(self) -> bool:
        """Whether one has worked since this was asked last."""
        files = [self.attempt.alive(f"rank-{rank}") for rank in self._ranks]
        before = self._stamps
        self._stamps = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        return self._stamps != before

    def all_done(self) -> bool:
        """Whether all have come to the end of the training."""
        return all(child.poll() == 0 for child in self._children.values())

    def _own_address(self) -> str:
        return self._gang.address

    def _more(self) -> dict[str, str]:
        return {INPUTS: json.dumps(self._inputs)}

    def _end_by_force(self) -> None:
        """Who started them looks several times a second, and ends them itself."""


class Deputy:
    """One machine's part in one attempt."""

    def __init__(self, run: RunDir, attempt: AttemptDir, spec: RunSpec, gang: Gang) -> None:
        self.run_dir, self.attempt, self.spec, self.gang = run, attempt, spec, gang
        self._control = ControlReader(attempt.control)
        self._signal = ""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_end)

    def work(self, inputs: dict[str, Any]) -> Verdict:
        """Meet the others and stay until they have ended. Raises Halt or Failure when it ends otherwise."""
        try:
            address, port = rendezvous(self.attempt.lease, self._check)
        except Over as error:
            raise Halt("stopped", "fenced", str(error)) from error
        try:
            line = Line(self.gang, self.attempt.number, address, port)
        except OSError as error:
            raise Failure(
                "node-lost", f"{self.gang.name} cannot reach {self.gang.names[0]}: {error}"
            ) from error
        _say(f"met {self.gang.names[0]} at {address}:{port}")
        try:
            return self._together(line, address, inputs)
        except (Halt, Failure) as error:
            verdict = verdict_of(error)
            line.lost(
                Verdict("failed", verdict.cause, f"{self.gang.name} ended first: {verdict.message}")
            )
            raise
        finally:
            line.close()

    def _together(self, line: Line, address: str, inputs: dict[str, Any]) -> Verdict:
        deadline = time.monotonic() + BEGINS_WITHIN
        while not line.store:
            self._check()
            if line.end is not None:
                return _ended(line)
            if time.monotonic() > deadline:
                raise Failure("node-lost", "the other machines did not come to the training")
            time.sleep(LOOK_EVERY)
        here = Detachment(self.attempt, self.spec, self.gang, (address, line.store), inputs)
        try:
            here.begin()
            return self._stay(line, here)
        finally:
            here.end(Verdict("stopped", "user", ""))

    def _stay(self, line: Line, here: Detachment) -> Verdict:
        told_at, done_at = 0.0, 0.0
        while line.end is None:
            self._check()
            now = time.monotonic()
            if (lost := here.lost()) is not None:
                line.lost(lost)
                return lost
            if now - told_at > TELL_EVERY:
                told_at = now
                if here.worked():
                    line.works()
            if here.all_done():
                done_at = done_at or now
                if now - done_at > ENDS_WITHIN:
                    raise Failure("node-lost", f"{self.gang.names[0]} did not say how it ended")
            time.sleep(LOOK_EVERY)
        return _ended(line)

    def _check(self) -> None:
        """Raise Halt when this machine's part is to end."""
        order = self._control.read()
        if order.want != "run":
            raise Halt("stopped", order.cause, order.message or "stopped on request")
        if self._signal:
            raise Halt("stopped", "killed", f"stopped by {self._signal}")

    def _told_to_end(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name


def _ended(line: Line) -> Verdict:
    """The end of the whole attempt, as the first machine told it or left."""
    assert line.end is not None
    return Verdict(line.end.state, line.end.cause, line.end.message)  # type: ignore[arg-type]


def _say(sentence: str) -> None:
    print(f"deputy: {sentence}", file=sys.stderr, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Work to the end of the attempt; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer.deputy", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="the run's directory")
    parser.add_argument("--attempt", type=int, required=True, help="number of the attempt")
    parser.add_argument("--model-path", default="", help="folder that stands for run:ID here")
    parser.add_argument("--reference-path", default="", help="the same for reference.name")
    parser.add_argument("--reward-path", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--dataset", action="append", default=[], metavar="ID=PATH")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value")
    options = parser.parse_intermixed_args(argv)
    run = RunDir(options.dir)
    attempt = run.attempt(options.attempt)
    gang = gang_read(attempt.gang)
    if gang is None:
        parser.error(f"{attempt.gang} does not say which machine of a gang this is")
    spec = spec_parse(with_overrides(run.spec_raw()["spec"], options.overrides))
    stacks_offer(attempt)
    inputs = {
        "model_path": options.model_path,
        "reference_path": options.reference_path,
        "reward_paths": dict(item.split("=", 1) for item in options.reward_path),
        "datasets": dict(item.split("=", 1) for item in options.dataset),
    }
    try:
        verdict = Deputy(run, attempt, spec, gang).work(inputs)
    except BaseException as error:
        verdict = verdict_of(error)
        if verdict.cause == "crash":
            import traceback  # noqa: PLC0415

            traceback.print_exc()
    word_write(attempt.word(0), verdict)
    _say(f"{verdict.state} ({verdict.cause}): {verdict.message}")
    return verdict.exit_code


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
