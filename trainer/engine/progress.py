"""What a run says while it works: journal lines, samples, heartbeats, and the terminal. No torch in here."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from trainer.expectation import expectations_read, expectations_write
from trainer.journal import Journal
from trainer.metrics import WARM_UP_PREFIX
from trainer.spans import SpanLines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trainer.engine.failure import Verdict
    from trainer.rundir import AttemptDir
    from trainer.spans import Span

HEARTBEAT = 4.0
"""Seconds of silence after which a heartbeat is written; fewer where ANNEAL_PROMISE is short."""
DOING_BYTES = 200
KEEP_EVERY = 10.0
"""At most one write of what was learned in so many seconds."""
SAMPLE_INTERVAL = 2.0
"""At most one batch of samples in so many seconds."""
SAMPLE_GROUPS = 4
LINE_INTERVAL = 5.0
LINE_STEPS = 10
SHOWN = ("reward", "loss", "rewards/accuracies", "eval/reward", "eval/accuracy", "eval/loss")


class Report:
    """The voice of one attempt."""

    def __init__(self, attempt: AttemptDir, *, first_step: int = 0) -> None:
        attempt.path.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(attempt.journal("trainer"))
        self.samples = Journal(attempt.journal("samples"))
        self.phase = ""
        self.part = ""
        """The part of a step that is at work, as `time/*` names it; "" where none is named."""
        self.step = first_step
        self.total_steps = 0
        self._kept_at = attempt.path.parent / "expectations.json"
        self.expectations = expectations_read(self._kept_at)
        self._heartbeat = min(HEARTBEAT, self.expectations.ordinary / 8)
        self._doing = os.open(attempt.doing, os.O_WRONLY | os.O_CREAT, 0o644)
        self._last_line = self._last_tick = self._last_kept = time.monotonic()
        self._kept = dict(self.expectations.longest)
        self._due = self._promised = 0.0
        self._last_samples = 0.0
        self._span_lines = SpanLines()
        self._terminal = _Terminal()

    def status(self, phase: str, *, data: dict[str, Any] | None = None, message: str = "") -> None:
        """Say which phase begins, and until when the next line is promised."""
        self._lived()
        self.phase = phase
        self._say_doing()
        self._append(
            "status",
            state="starting" if phase == "load" else "running",
            phase=phase,
            step=self.step,
            total_steps=self.total_steps,
            cause="",
            message=message,
            **self._promise(),
            data=data or {},
        )
        self._terminal.phase(phase, message)

    @property
    def doing(self) -> str:
        """The phase whose expectation counts: the part of a step where one is named, else the phase."""
        part = self.part or self.phase
        # A warm-up has another data set and other batches: what it needs tells nothing of the run's own steps.
        return f"warm-up/{part}" if self.phase == "warm-up" and self.part else part

    def tick(self) -> None:
        """Write a heartbeat when nothing was written for a while. Called from inside the work itself."""
        self._lived()
        if time.monotonic() - self._last_line >= self._heartbeat:
            self._beat()

    def enter(self, part: str) -> None:
        """Another part of a step begins, which may be silent for longer than was promised last."""
        self._lived()
        self.part = "" if part == "other" else part
        self._say_doing()
        if self.phase and time.monotonic() + self.expectations.of(self.doing) > self._due:
            self._beat()

    def _lived(self) -> None:
        """The work has come this far: what lay between is a silence of the phase it was in."""
        now = time.monotonic()
        if self.phase:
            self.expectations.take(self.doing, now - self._last_tick)
        self._last_tick = now

    def _say_doing(self) -> None:
        """Leave where we are, and what is expected, for host: a journal line for each part would be too many."""
        promise = self._promise()
        text = f"{promise['part']}\n{promise['expect_next_in']}\n{promise['because']}\n"
        # Microseconds, and nothing that a full disk could keep from being done.
        with contextlib.suppress(OSError):
            os.pwrite(self._doing, text.encode().ljust(DOING_BYTES)[:DOING_BYTES], 0)

    def _beat(self) -> None:
        # Its expectation may have grown since the part began: host goes by the file.
        self._say_doing()
        self._append("heartbeat", phase=self.phase, step=self.step, **self._promise())
        self._keep()

    def _keep(self) -> None:
        """Leave what was learned to later attempts, seldom, and only what is worth a write."""
        known = self.expectations.longest
        if time.monotonic() - self._last_kept < KEEP_EVERY:
            return
        if any(seconds > 1.1 * self._kept.get(phase, 0.1) for phase, seconds in known.items()):
            self._kept, self._last_kept = dict(known), time.monotonic()
            # A disk too full for it costs a later attempt some patience, and this one nothing.
            with contextlib.suppress(OSError):
                expectations_write(self._kept_at, self.expectations)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """One line of metrics."""
        self._append("metrics", step=step, values=values)
        self._terminal.metrics(self.phase, step, self.total_steps, values)

    def spans(
        self,
        step: int,
        process: str,
        spans: Sequence[Span],
        *,
        folded: int = 0,
        counts: bool = True,
        stands_for: int | None = None,
    ) -> int | None:
        """Which phases a process was in at a step, for the plan of the run; one line at most, often none.

        `process` is any name: "trainer", "generator 0", "rank 1". Spans are in seconds of `time.perf_counter`,
        so those of another process of this machine can be handed over as they are. `folded` of them were added
        up (`trainer.spans.Lap`). Without `counts` it is what came behind the last step; `stands_for` is for a
        process beside the one whose line was written. Returns for how many steps the line stands, None where
        none was written.
        """
        fields = self._span_lines.line(
            step, process, spans, folded=folded, counts=counts, stands_for=stands_for
        )
        if fields is None:
            return None
        self._append("spans", **fields)
        return int(fields["steps"])

    def wants_samples(self) -> bool:
        """Whether a batch of samples is due."""
        return time.monotonic() - self._last_samples >= SAMPLE_INTERVAL

    def write_samples(self, samples: Iterable[dict[str, Any]]) -> None:
        """Write samples to their own journal."""
        self._last_samples = time.monotonic()
        self.samples.extend("sample", list(samples))

    def write_answers(
        self,
        kind: Literal["answer", "reading", "judgement", "played"],
        events: Sequence[dict[str, Any]],
    ) -> None:
        """Write what an evaluation found, or a playground answered, beside the samples: by a single write."""
        if events:
            self.samples.extend(kind, events)

    def checkpoint(self, **fields: Any) -> None:
        """Say that a checkpoint is complete."""
        self._append("checkpoint", **fields)

    def alert(
        self, level: str, code: str, message: str, *, data: dict[str, Any] | None = None
    ) -> None:
        """Say something that people should notice; `data` says the same to programs."""
        more = {} if data is None else {"data": data}
        self._append("alert", level=level, code=code, message=message, step=self.step, **more)
        self._terminal.line(f"{level}: {message}")

    def end(self, verdict: Verdict) -> None:
        """The last line. A disk too full for it still leaves the sentence on the terminal."""
        self._terminal.close()
        stream = sys.stderr if verdict.state == "failed" else sys.stdout
        try:
            self._append(
                "status",
                state=verdict.state,
                phase="done" if verdict.state == "finished" else self.phase,
                step=self.step,
                total_steps=self.total_steps,
                cause=verdict.cause,
                message=verdict.message,
                expect_next_in=0,
                data={},
            )
            self.journal.close()
            self.samples.close()
            os.close(self._doing)
        except OSError as error:
            print(f"the journal could not be closed: {error}", file=sys.stderr, flush=True)
        # The very last, since whoever finds no last line in the journal takes this one.
        print(f"{verdict.state}: {verdict.message}", file=stream, flush=True)

    def _append(self, type: str, **fields: Any) -> None:
        self.journal.append(type, **fields)
        self._last_line = time.monotonic()
        self._due = self._last_line + float(fields.get("expect_next_in", self._promised))
        self._promised = self._due - self._last_line

    def _promise(self) -> dict[str, Any]:
        """The fields of a promise. A silence may begin just before the next heartbeat would be due."""
        expected = self.expectations.of(self.doing)
        return {
            "part": self.doing,
            "expect_next_in": round(expected + self._heartbeat, 1),
            "because": self.expectations.words(self.doing),
        }


class _Terminal:
    """A moving bar on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last = 0.0
        self._seen: dict[str, float] = {}
        if sys.stdout.isatty():
            self._progress = Progress(
                TextColumn("{task.fields[phase]:9}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self._task = self._progress.add_task("", total=None, phase="load")
            self._progress.start()

    def phase(self, phase: str, message: str) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, phase=phase)
        elif message:
            self.line(f"{phase}: {message}")

    def metrics(self, phase: str, step: int, total: int, values: dict[str, float]) -> None:
        plain = {key.removeprefix(WARM_UP_PREFIX): value for key, value in values.items()}
        self._seen |= {key: plain[key] for key in SHOWN if key in plain}
        text = "  ".join(f"{key} {value:.4g}" for key, value in self._seen.items())
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task, completed=step, total=total or None, description=text, phase=phase
            )
            return
        now = time.monotonic()
        has_eval = any(key.startswith("eval/") for key in values)
        silence = now - self._last
        due = silence >= LINE_INTERVAL or (step % LINE_STEPS == 0 and silence >= 1)
        if has_eval or due or step == total:
            self._last = now
            seconds = plain.get("time/step")
            speed = "" if seconds is None else f"  {seconds:.2f} s/step"
            self.line(f"{phase} {step}/{total or '?'}  {text}{speed}")

    def line(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
